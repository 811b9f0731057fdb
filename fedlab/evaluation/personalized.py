"""Evaluation of personalized models: clients first adapt the global model to local examples."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from fedlab import _checks, aggregators
from fedlab.algorithms import Algorithm, fine_tuning, prepare
from fedlab.clients import Batching, ClientData, seeding
from fedlab.engines import batches as batching
from fedlab.engines import blocks, checks, client_work
from fedlab.engines.client_blocks import ClientBlocks
from fedlab.engines.engine import Mapper, Setting, Work
from fedlab.engines.workers import Workers
from fedlab.evaluation.central import check_batch_size, merged
from fedlab.evaluation.evaluation import Evaluation
from fedlab.learner import check_compiled, clone, weight_arrays, with_weights


def evaluate_personalized(
    model: Any,
    local: ClientData,
    test: ClientData,
    algorithm: Algorithm | None = None,
    *,
    batch_size: int = 8,
    local_epochs: int = 1,
    max_batches: int | None = None,
    evaluation_batch_size: int = 64,
    seed: int = 0,
    num_workers: int | None = None,
) -> dict[str, float]:
    """Evaluates a compiled Keras model after every client has personalized it.

    ```
    each client k of `test`:  w_k = the personalization of the model on its examples in
    `local`
    loss and metrics: of all clients' test examples together, each at its client's w_k
    ```

    Args:
      model: a compiled Keras model; it is not changed.
      local: the examples that clients personalize the model on, for every client of
        `test`.
      test: the examples that clients are evaluated on.
      algorithm: one with a personalization, such as `fedlab.algorithms.fed_recon(...)`
        or `fedlab.algorithms.fine_tuning()`, the default.
      batch_size, local_epochs, max_batches: how a client reads its local examples; see
        `fedlab.clients.Batching`.
      evaluation_batch_size: test examples per step.
      seed: determines the order of a client's local examples.
      num_workers: threads; by default the number of cores.

    Returns:
      Name -> float, "loss" first, in Keras's names.

    Raises:
      TypeError: `local` or `test` is not a `ClientData`.
      ValueError: the algorithm has no personalization, or a client has no local
        examples.
    """
    check_compiled(model)
    check_batch_size("evaluation_batch_size", evaluation_batch_size)
    check_client_data(local=local, test=test)
    reading = Batching(batch_size, local_epochs, max_batches=max_batches)
    setting = client_setting(model, local, algorithm, reading, seed)
    check_personalization(setting.algorithm, local, test)
    with started(setting, num_workers) as (workers, weights):
        tests = PersonalTests(setting, local, test, evaluation_batch_size)
        return tests.evaluate(workers, weights, round_num=1)


def evaluation(
    name: str, local: ClientData, test: ClientData, setting: Setting, batch_size: int
) -> Evaluation:
    """The `Evaluation` of personalized models.

    Args:
      name: its name.
      local, test: as in `evaluate_personalized`.
      setting: the run's `Setting`.
      batch_size: test examples per step.
    """
    check_personalization(setting.algorithm, local, test)
    tests = PersonalTests(setting, local, test, batch_size)

    def run(model):
        return tests.evaluate(model.engine, model.weights, max(model.round_num, 1)), []

    parts = {"local": local, "test": test}
    settings = {
        "examples": {part: _num_examples(clients) for part, clients in parts.items()},
        "data": lambda: {part: clients.fingerprint() for part, clients in parts.items()},
    }
    return Evaluation(name, settings, run)


def personalize(
    model: Any,
    local: ClientData,
    client_id: str,
    algorithm: Algorithm | None = None,
    *,
    batch_size: int = 8,
    local_epochs: int = 1,
    max_batches: int | None = None,
    seed: int = 0,
) -> Any:
    """Returns one client's personalized model, as `evaluate_personalized` evaluates it.

    Args:
      model: a compiled Keras model; it is not changed.
      local: the clients' local examples.
      client_id: the client, one of `local`.
      algorithm, batch_size, local_epochs, max_batches, seed: as in
        `evaluate_personalized`.

    Returns:
      A compiled Keras model of the same architecture with the client's weights.

    Raises:
      TypeError, ValueError: as `evaluate_personalized`; also for an unknown client.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> personal = fl.personalize(model, train, "ROLE_1")
      >>> alone = test.select(["ROLE_1"])
      >>> fl.evaluate(personal, alone)["loss"] < fl.evaluate(model, alone)["loss"]
      True
    """
    check_compiled(model)
    check_client_data(local=local)
    if client_id not in local:
        raise ValueError(f"client_id={client_id!r:.60}: expected one of the client ids of `local`")
    reading = Batching(batch_size, local_epochs, max_batches=max_batches)
    setting = client_setting(model, local, algorithm, reading, seed)
    check_personalization(setting.algorithm, local, [client_id])
    prepare_local = LocalExamples(setting, local).make
    with started(setting, 1) as (workers, weights):
        weights = tf.nest.map_structure(tf.convert_to_tensor, weights)
        work = client_work.personalize(
            setting, weights, 1, lambda client_id: (prepare_local(client_id), None)
        )
        (((trainable, non_trainable), _),) = workers.map(work, [client_id])
    return with_weights(clone(model), trainable, non_trainable)


class LocalExamples:
    """Lays out the local examples of clients, the same in every round.

    Args:
      setting: the run's `Setting`.
      local: the local examples.
    """

    def __init__(self, setting: Setting, local: ClientData):
        self._blocks = ClientBlocks(setting._replace(clients=local, conditions=None))

    def make(self, client_id: str) -> tuple:
        """(`Block`, `Counts`, `Client`) of one client."""
        data, _ = self._blocks.make(0, [client_id], {})  # round 0: no round of training is the same
        return data


class PersonalTests:
    """Evaluates personalized models.

    Args:
      setting, local, test, batch_size: as in `evaluation`.
    """

    def __init__(self, setting: Setting, local: ClientData, test: ClientData, batch_size: int):
        self._setting = setting._replace(clients=local, conditions=None)
        self._local = LocalExamples(setting, local)
        self._test = TestExamples(setting.model, test, batch_size)

    def evaluate(self, engine: Mapper, weights: Any, round_num: int) -> dict[str, float]:
        """The metrics of all clients' test examples together."""

        def work(state):
            return self.work(weights, state, round_num)

        return merged(engine, work, self._test.clients.client_ids)

    def work(self, weights: Any, metric_state: list, round_num: int) -> Work:
        """The `Work` that evaluates a client's personalized model; its items are client ids."""
        weights = tf.nest.map_structure(tf.convert_to_tensor, weights)

        def prepare_client(client_id):
            data, num_examples = self._test.make(client_id)
            return (*self._local.make(client_id), *data), num_examples

        return client_work.evaluate_personalized(
            self._setting, weights, round_num, metric_state, self._test.specs, prepare_client
        )


class TestExamples:
    """Lays out the test examples of clients.

    Args:
      model: the compiled Keras model.
      clients: the test examples.
      batch_size: examples per step; a model built for a fixed batch size keeps its own.

    Attributes:
      clients: as given.
      specs: the `Specs` of their columns.
    """

    __test__ = False  # not a test case

    def __init__(self, model: Any, clients: ClientData, batch_size: int):
        self.clients = clients
        self.specs = blocks.column_specs(clients.schema)
        self._model = model
        self._batching = Batching(batching.fixed_batch_size(model) or batch_size)
        self._fill = batching.fill_for(model, self._batching)

    def make(self, client_id: str) -> tuple[tuple, float]:
        """((`Block`, steps) of one client, its number of examples that are not padding)."""
        columns = self.clients.in_schema(client_id)
        checks.check(self._model, self._batching, columns)
        batches = batching.in_order(columns, self._batching.batch_size, self._fill)
        block = blocks.make_block([batches], [blocks.pack(columns)])
        return (block, blocks.all_steps(block)), float(batches.examples.sum())


def client_setting(
    model: Any, clients: ClientData, algorithm: Algorithm | None, reading: Batching, seed: int
) -> Setting:
    """The `Setting` in which clients personalize a model outside of a simulation."""
    return Setting(
        model=model,
        build=lambda: clone(model),
        clients=clients,
        algorithm=prepare(algorithm or fine_tuning(), model),
        aggregator=aggregators.mean(),
        batching=reading.check(),
        seed=seeding.check_seed(seed),
    )


@contextlib.contextmanager
def started(setting: Setting, num_workers: int | None) -> Iterator[tuple[Workers, Any]]:
    """(`Workers` for the setting's model, its weights); the workers are closed at the end."""
    workers = Workers(setting.build, setting.clients, num_workers)
    try:
        yield workers, weight_arrays(setting.model)
    finally:
        workers.close()


def check_client_data(**clients: ClientData) -> None:
    """Raises TypeError if an argument, by name, is not a `ClientData`."""
    for name, given in clients.items():
        if not isinstance(given, ClientData):
            raise _checks.type_error(name, given, "a fedlab.ClientData (see ClientData.from_dict)")


def check_personalization(algorithm: Algorithm, local: ClientData, test: Iterable[str]) -> None:
    """Raises ValueError if clients of `test` cannot personalize a model."""
    if algorithm.personalize is None:
        raise ValueError(
            f"algorithm {algorithm.name!r} has no personalization: wrap it in "
            "fedlab.algorithms.fine_tuning(...)"
        )
    missing = [client_id for client_id in test if client_id not in local]
    if missing:
        raise ValueError(
            f"{len(missing)} clients, such as {missing[:3]}, have test examples but no local "
            "examples: expected both; select the others"
        )


def _num_examples(clients):
    return sum(map(clients.num_examples, clients))
