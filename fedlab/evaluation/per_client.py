"""Federated evaluation: the global model on each client by itself.

It shows for which clients the model works well.

Fair Resource Allocation in Federated Learning Tian Li, Maziar Sanjabi, Ahmad Beirami,
Virginia Smith. 2020. https://arxiv.org/abs/1905.10497 As in Section 4, a model is
judged by its mean over clients and by its mean over the worst tenth of them.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.algorithms import Algorithm, fine_tuning
from fedlab.clients import Batching, ClientData
from fedlab.engines import client_work
from fedlab.engines.engine import Mapper, Setting
from fedlab.evaluation.central import check_batch_size
from fedlab.evaluation.evaluation import Evaluation
from fedlab.evaluation.metric_names import lower_is_better
from fedlab.evaluation.personalized import (
    PersonalTests,
    TestExamples,
    check_client_data,
    check_personalization,
    client_setting,
    started,
)
from fedlab.learner import check_compiled


class PerClient(NamedTuple):
    """Clients that `simulate(evaluate_on=...)` evaluates one by one: see `per_client`.

    Attributes:
      test: the examples that they are evaluated on.
      local: the examples that they personalize the model on, or None.
    """

    test: ClientData
    local: ClientData | None


class FederatedEvaluation(NamedTuple):
    """The result of a federated evaluation.

    Attributes:
      summary: name -> float. For each metric, such as accuracy: its mean weighted by
        the clients' examples (`accuracy`), its unweighted mean (`accuracy_unweighted`),
        percentiles over clients (`accuracy_p10`, `_p50`, `_p90`), and the mean over the
        tenth of the clients with the worst values (`accuracy_worst_decile`). With local
        examples also the same of `personal_accuracy`, and `accuracy_gain`, the
        improvement of the weighted mean. Clients without test examples are left out.
      clients: one dict per client, in the clients' order: client_id, num_examples, and
        its metrics, which are NaN without test examples.
    """

    summary: dict[str, float]
    clients: list[dict[str, Any]]


def per_client(test: ClientData, local: ClientData | None = None) -> PerClient:
    """A value for `simulate(evaluate_on=...)`: evaluates the global model on each client by itself.

    The round's row gets the summary of `evaluate_federated`. Each client's metrics are
    in `Run.evaluations`, and in the table `evaluations` of the run folder.

    Args:
      test: the clients' test examples.
      local: examples of every client of `test`, to evaluate personalized models too.
        Clients personalize the model as the run's algorithm does; if it has no
        personalization, by steps of the compiled optimizer
        (`fedlab.algorithms.fine_tuning`).

    Raises:
      TypeError: an argument is not a `ClientData`.
      ValueError: every client is empty.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> sets = {"roles": per_client(test)}
      >>> run = fl.simulate(
      ...     model, train, rounds=1, clients_per_round=2, evaluate_on=sets, progress=False
      ... )
      >>> run.history[-1]["roles_loss_p10"] <= run.history[-1]["roles_loss_p90"]
      True
    """
    check_client_data(test=test)
    if local is not None:
        check_client_data(local=local)
    if not any(map(test.num_examples, test)):
        raise ValueError("every client is empty: expected an example to evaluate on")
    return PerClient(test, local)


def evaluate_federated(
    model: Any,
    clients: ClientData,
    local: ClientData | None = None,
    algorithm: Algorithm | None = None,
    *,
    batch_size: int = 8,
    local_epochs: int = 1,
    max_batches: int | None = None,
    evaluation_batch_size: int = 64,
    seed: int = 0,
    num_workers: int | None = None,
) -> FederatedEvaluation:
    """Evaluates a compiled Keras model on each client by itself.

        m_k = the metric on the n_k test examples of client k, as model.evaluate returns
        it
        weighted mean: sum_k n_k m_k / sum_k n_k        unweighted: sum_k m_k / K

    Args:
      model: a compiled Keras model; it is not changed.
      clients: the clients' test examples.
      local: examples of every one of these clients, to evaluate personalized models
        too.
      algorithm: one with a personalization, by default
        `fedlab.algorithms.fine_tuning()`.
      batch_size, local_epochs, max_batches: how a client reads its local examples; see
        `fedlab.clients.Batching`.
      evaluation_batch_size: test examples per step.
      seed: determines the order of a client's local examples.
      num_workers: threads; by default the number of cores. It does not change the
        result.

    Returns:
      A `FederatedEvaluation`.

    Raises:
      TypeError, ValueError: as `per_client`; also for an algorithm without
        personalization.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> result = evaluate_federated(model, test, local=train)
      >>> [client["client_id"] for client in result.clients]
      ['ROLE_0', 'ROLE_1', 'ROLE_2']
      >>> result.summary["loss_gain"] > 0
      True
    """
    check_compiled(model)
    check_batch_size("evaluation_batch_size", evaluation_batch_size)
    data = per_client(clients, local)
    reading = Batching(batch_size, local_epochs, max_batches=max_batches)
    setting = client_setting(model, clients if local is None else local, algorithm, reading, seed)
    each = EachClient(setting, data, evaluation_batch_size)
    with started(setting, num_workers) as (workers, weights):
        return each.evaluate(workers, weights, round_num=1)


def evaluation(name: str, data: PerClient, setting: Setting, batch_size: int) -> Evaluation:
    """The `Evaluation` of each client by itself.

    Args:
      name: its name.
      data: the clients.
      setting: the run's `Setting`. Without a personalization of its algorithm, clients
        fine-tune.
      batch_size: test examples per step.
    """
    algorithm = setting.algorithm
    tuned = algorithm if algorithm.personalize else fine_tuning(algorithm)
    clients = EachClient(setting._replace(algorithm=tuned), data, batch_size)

    def run(model):
        result = clients.evaluate(model.engine, model.weights, max(model.round_num, 1))
        return result.summary, _rows(name, result.clients)

    parts = {part: given for part, given in data._asdict().items() if given is not None}
    num_examples = {part: sum(map(given.num_examples, given)) for part, given in parts.items()}
    settings = {
        "examples": {"clients": len(data.test), **num_examples},
        "data": lambda: {part: given.fingerprint() for part, given in parts.items()},
    }
    return Evaluation(name, settings, run)


class EachClient:
    """Evaluates a model on each client by itself.

    Args:
      setting: how clients personalize the model, if they have local examples.
      data: the clients.
      batch_size: test examples per step.

    Raises:
      ValueError: clients have local examples but cannot personalize the model.
    """

    def __init__(self, setting: Setting, data: PerClient, batch_size: int):
        self._data = data
        self._test = TestExamples(setting.model, data.test, batch_size)
        self._personal = None
        if data.local is not None:
            check_personalization(setting.algorithm, data.local, data.test)
            self._personal = PersonalTests(setting, data.local, data.test, batch_size)

    def evaluate(self, engine: Mapper, weights: Any, round_num: int) -> FederatedEvaluation:
        """Evaluates weights, (trainable, non-trainable).

        Raises:
          ValueError: all test examples are padding.
        """
        test, initial = self._data.test, engine.merger.initial
        weights = tf.nest.map_structure(tf.convert_to_tensor, weights)
        work = client_work.evaluate(weights, initial, self._test.specs, self._test.make)
        present = [client_id for client_id in test if test.num_examples(client_id)]
        # All of them before the first result: computing one needs a replica that is not at work.
        states = [*engine.map(work, present)]
        metrics, counts = {}, {}
        for client_id, (state, num_examples) in zip(present, states):
            if num_examples:
                metrics[client_id] = engine.metrics.results(state)
                counts[client_id] = num_examples
        if not metrics:
            raise ValueError("all examples are padding: expected an example to evaluate on")
        if self._personal is not None:
            work = self._personal.work(weights, initial, round_num)
            states = [*engine.map(work, metrics)]
            for each, (state, _) in zip(metrics.values(), states):
                results = engine.metrics.results(state)
                each |= {f"personal_{name}": value for name, value in results.items()}
        nothing = dict.fromkeys(next(iter(metrics.values())), math.nan)
        clients = [
            {
                "client_id": client_id,
                "num_examples": counts.get(client_id, 0.0),
                **metrics.get(client_id, nothing),
            }
            for client_id in test
        ]
        summary = summarize([*metrics.values()], [*counts.values()])
        return FederatedEvaluation(summary, clients)


def summarize(metrics: list[dict[str, float]], counts: list[float]) -> dict[str, float]:
    """The summary of a `FederatedEvaluation`.

    Args:
      metrics: one dict per client, name -> float, all with the same names.
      counts: the clients' numbers of examples, above 0.

    Example: two clients, one with three times the examples.
      >>> summary = summarize([{"accuracy": 0.5}, {"accuracy": 1.0}], [1, 3])
      >>> summary["accuracy"], summary["accuracy_unweighted"]
      (0.875, 0.75)
      >>> summary["accuracy_p10"], summary["accuracy_worst_decile"]
      (0.55, 0.5)
    """
    summary = {}
    for name in metrics[0]:
        values = np.array([each[name] for each in metrics])
        worst_first = np.sort(values)[::-1] if lower_is_better(name) else np.sort(values)
        summary[name] = float(np.average(values, weights=counts))
        summary[f"{name}_unweighted"] = float(values.mean())
        summary |= {f"{name}_p{q}": float(np.percentile(values, q)) for q in (10, 50, 90)}
        summary[f"{name}_worst_decile"] = float(worst_first[: math.ceil(len(values) / 10)].mean())
    for name in [name for name in metrics[0] if f"personal_{name}" in metrics[0]]:
        gain = summary[f"personal_{name}"] - summary[name]
        summary[f"{name}_gain"] = -gain if lower_is_better(name) else gain
    return summary


def _rows(part, clients):
    """Rows of the table `evaluations` without "round": one per client and metric."""
    return [
        {
            "part": part,
            "client_id": client["client_id"],
            "num_examples": client["num_examples"],
            "metric": name,
            "value": value,
        }
        for client in clients
        for name, value in client.items()
        if name not in ("client_id", "num_examples")
    ]
