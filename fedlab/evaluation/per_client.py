"""Federated evaluation: the global model on each client by itself, so that it shows for whom it is good and for whom it is not.

Fair Resource Allocation in Federated Learning
Tian Li, Maziar Sanjabi, Ahmad Beirami, Virginia Smith. 2020. https://arxiv.org/abs/1905.10497
Section 4 judges a model by its mean over clients and by the tenth of them that it is worst for, as is done here.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.clients import Batching, ClientData
from fedlab.engines import batches as batching
from fedlab.engines import blocks
from fedlab.evaluation.central import check_batch_size, test_state
from fedlab.evaluation.metric_names import lower_is_better
from fedlab.evaluation.personalized import (
    check_personalization,
    client_setting,
    client_work,
    replicas,
)
from fedlab.learner.keras2.cloning import check_compiled
from fedlab.learner.keras2.metric_state import finalize


class PerClient(NamedTuple):
    """Clients that `simulate(evaluate_on=...)` evaluates one by one: see `per_client`.

    Attributes:
      test: what they are evaluated on.
      own: what each first makes the model its own on, or None.
    """

    test: Any
    own: Any


class FederatedEvaluation(NamedTuple):
    """What a federated evaluation gives.

    Attributes:
      summary: name -> float, for each metric: its mean in which clients count by their examples (`accuracy`), the plain one
        (`accuracy_unweighted`), percentiles over clients (`accuracy_p10`, `_p50`, `_p90`), and the mean of the tenth of the clients that it
        is worst for (`accuracy_worst_decile`). With examples of their own the same of `personal_accuracy`, and `accuracy_gain`: by how much
        that is better in the mean by examples. Clients without test examples are left out.
      clients: one dict a client, in the order of the clients: client_id, num_examples, and its metrics, NaN where it has no test example.
    """

    summary: dict
    clients: list


def per_client(test, own=None):
    """A value for `simulate(evaluate_on=...)`: the global model is evaluated on each client by itself.

    The round's row gets the summary of `evaluate_federated`; each client's metrics are in `Run.evaluations`, the table `evaluations` of the
    run folder.

    Args:
      test: a `ClientData`: what clients are evaluated on.
      own: a `ClientData` with every client of `test`: what fine-tuning on examples of their own would gain is evaluated too. They tune as
        the algorithm's personalization says, or where it has none, by steps of the compiled optimizer (`fedlab.algorithms.fine_tuning`).

    Raises:
      TypeError: something else than `ClientData`.
      ValueError: every client is empty, or a client has no examples of its own.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> run = fl.simulate(model, train, rounds=1, clients_per_round=2, evaluate_on={"roles": per_client(test)}, progress=False)
      >>> run.history[-1]["roles_loss_p10"] <= run.history[-1]["roles_loss_p90"]
      True
    """
    for name, clients in (("test", test), ("own", own)):
        if not isinstance(clients, ClientData) and not (name == "own" and clients is None):
            raise TypeError(
                f"{name} is a {type(clients).__name__}; allowed: a fedlab.clients.ClientData, see ClientData.from_dict."
            )
    if not any(map(test.num_examples, test)):
        raise ValueError("there is no example to evaluate on: every client is empty; give others.")
    return PerClient(test, own)


def evaluate_federated(
    model,
    clients,
    own=None,
    algorithm=None,
    *,
    batch_size=8,
    local_epochs=1,
    max_batches=None,
    evaluation_batch_size=64,
    seed=0,
    num_workers=None,
):
    """Evaluates a compiled Keras model on each client by itself.

        m_k = the metric on the n_k test examples of client k, what model.evaluate gives for them
        weighted mean: sum_k n_k m_k / sum_k n_k        unweighted: sum_k m_k / K

    Args:
      model: a compiled Keras model; it is not changed.
      clients: a `ClientData`: the clients' test examples.
      own: a `ClientData` with every one of these clients: what each could fine-tune on. By default none does.
      algorithm: how they would: one with a personalization, by default `fedlab.algorithms.fine_tuning()`.
      batch_size, local_epochs, max_batches: how a client reads its own examples; see `fedlab.clients.Batching`.
      evaluation_batch_size: test examples a step.
      seed: decides the order of a client's own examples.
      num_workers: threads; by default the number of cores. It does not change the result.

    Returns:
      A `FederatedEvaluation`.

    Raises:
      TypeError, ValueError: as `per_client`; also for an algorithm without personalization.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> found = evaluate_federated(fl.models.char_rnn(units=8, embedding_dim=4), test, own=train)
      >>> [client["client_id"] for client in found.clients]
      ['ROLE_0', 'ROLE_1', 'ROLE_2']
      >>> found.summary["loss_gain"] > 0
      True
    """
    check_compiled(model)
    check_batch_size("evaluation_batch_size", evaluation_batch_size)
    data = per_client(clients, own)
    reading = Batching(batch_size, local_epochs, max_batches=max_batches)
    setting = client_setting(model, clients if own is None else own, algorithm, reading, seed)
    check_per_client(setting.algorithm, data)
    with replicas(setting, num_workers) as (workers, arrays):
        return evaluate_per_client(setting, workers, *arrays, data, 1, evaluation_batch_size)


def check_per_client(algorithm, data):
    """Raises ValueError where clients could not make a model their own, but should."""
    if data.own is not None:
        check_personalization(algorithm, data.own, data.test)


def evaluate_per_client(setting, workers, trainable, non_trainable, data, round_num, batch_size):
    """As `evaluate_federated`, for weights (lists of arrays) put into the replicas of `workers`, and the batches of `setting`."""
    present = data.test.select(
        client_id for client_id in data.test if data.test.num_examples(client_id)
    )
    replica, initial = workers.any_replica(), workers.merger.initial
    size = replica.fixed_size or batch_size
    fill = batching.fill_for(replica.model, Batching(size))
    open_rows = blocks.open_rows(data.test.schema)
    weights = (
        [tf.convert_to_tensor(w) for w in trainable],
        [tf.convert_to_tensor(w) for w in non_trainable],
    )

    def work(replica, client_id):
        columns = data.test.in_schema(client_id)
        batching.check(replica.model, Batching(batch_size=size), columns)
        batches = batching.in_order(columns, size, fill)
        return float(batches.examples.sum()), test_state(
            replica, weights, batches, open_rows, initial
        )

    # All of them before the first is finalized: that needs a replica while none is at work.
    tested = [*workers.map(work, present.client_ids)]
    found = {
        client_id: (count, finalize(replica, state))
        for client_id, (count, state) in zip(present, tested)
        if count
    }
    if not found:
        raise ValueError(
            "there is no example to evaluate on: every client's are padding; give others."
        )
    if data.own is not None:
        tune = client_work(
            setting, replica, trainable, non_trainable, data.own, data.test, round_num, batch_size
        )
        personal = [
            *workers.map(lambda replica, client_id: tune(replica, client_id, initial), found)
        ]
        for (_, metrics), state in zip(found.values(), personal):
            metrics |= {
                f"personal_{name}": value for name, value in finalize(replica, state).items()
            }
    counts, metrics = zip(*found.values())
    nothing = 0.0, dict.fromkeys(metrics[0], math.nan)
    rows = {client_id: found.get(client_id, nothing) for client_id in data.test}
    clients = [
        {"client_id": client_id, "num_examples": count, **each}
        for client_id, (count, each) in rows.items()
    ]
    return FederatedEvaluation(summarize(metrics, counts), clients)


def summarize(metrics, counts):
    """The summary of a `FederatedEvaluation`.

    Args:
      metrics: one dict a client, name -> float, all with the same names.
      counts: how many examples each client has, above 0.

    Example: two clients, one with three times the examples.
      >>> summary = summarize([{"accuracy": 0.5}, {"accuracy": 1.0}], [1, 3])
      >>> summary["accuracy"], summary["accuracy_unweighted"], summary["accuracy_p10"], summary["accuracy_worst_decile"]
      (0.875, 0.75, 0.55, 0.5)
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


def evaluation_rows(part, clients):
    """A `FederatedEvaluation`'s clients as rows of the table `evaluations`, without "round": one a client and metric."""
    rows = []
    for client in clients:
        who = {
            "part": part,
            "client_id": client["client_id"],
            "num_examples": client["num_examples"],
        }
        metrics = {
            name: value
            for name, value in client.items()
            if name not in ("client_id", "num_examples")
        }
        rows += [{**who, "metric": name, "value": value} for name, value in metrics.items()]
    return rows
