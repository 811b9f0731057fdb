"""Evaluation client by client: each makes the global model its own, and is evaluated on its own test data."""

import contextlib

import numpy as np
import tensorflow as tf

from fedlab import aggregators
from fedlab.algorithms import Counts, fine_tuning, prepare
from fedlab.clients import Batching, ClientData, seeding
from fedlab.engines import batches as batching
from fedlab.engines import blocks
from fedlab.engines.engine import Setting
from fedlab.engines.local import Shared, client_function, clients_of
from fedlab.engines.structure import check_weights
from fedlab.engines.workers import Workers
from fedlab.evaluation.central import check_batch_size, merged, test_batches
from fedlab.learner.keras2.cloning import (
    check_compiled,
    clone,
    non_trainable_weights,
    weight_arrays,
    with_weights,
)
from fedlab.learner.keras2.replica import assign


def evaluate_personalized(
    model,
    own,
    test,
    algorithm=None,
    *,
    batch_size=8,
    local_epochs=1,
    max_batches=None,
    evaluation_batch_size=64,
    seed=0,
    num_workers=None,
):
    """Evaluates a compiled Keras model after every client has made it its own.

        each client k of `test`:  w_k = the algorithm's personalization of the model on the client's examples in `own`
        loss and metrics: those of the clients' test examples together, each at its client's w_k

    Args:
      model: a compiled Keras model; it is not changed.
      own, test: `ClientData`: what clients adapt to, and what they are evaluated on. Every client of `test` has to be in `own`.
      algorithm: one with a personalization: `fedlab.algorithms.fed_recon(...)`, or `fedlab.algorithms.fine_tuning()`, the default.
      batch_size, local_epochs, max_batches: how a client reads its own examples; see `fedlab.clients.Batching`.
      evaluation_batch_size: test examples a step.
      seed: decides the order of a client's own examples.
      num_workers: threads; by default the number of cores.

    Returns:
      Name -> float, "loss" first, in Keras's names.

    Raises:
      ValueError: the algorithm has no personalization, or a client has no examples of its own.
    """
    check_compiled(model)
    check_batch_size("evaluation_batch_size", evaluation_batch_size)
    for name, clients in (("own", own), ("test", test)):
        if not isinstance(clients, ClientData):
            raise TypeError(
                f"{name} is a {type(clients).__name__}; allowed: a fedlab.clients.ClientData, see ClientData.from_dict."
            )
    reading = Batching(batch_size, local_epochs, max_batches=max_batches)
    setting = client_setting(model, own, algorithm, reading, seed)
    check_personalization(setting.algorithm, own, test)
    with replicas(setting, num_workers) as (workers, arrays):
        return evaluate_clients(setting, workers, *arrays, own, test, 1, evaluation_batch_size)


def personalize(
    model, own, client_id, algorithm=None, *, batch_size=8, local_epochs=1, max_batches=None, seed=0
):
    """Makes a model one client's own, as `evaluate_personalized` does before it evaluates that client.

    Args:
      model: a compiled Keras model; it is not changed.
      own: a `ClientData`.
      client_id: the client, one of `own`.
      algorithm, batch_size, local_epochs, max_batches, seed: as in `evaluate_personalized`.

    Returns:
      A compiled Keras model of the same architecture with the client's weights.

    Raises:
      TypeError, ValueError: as `evaluate_personalized`; also for an unknown client.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> own = fl.personalize(model, train, "ROLE_1")
      >>> alone = test.select(["ROLE_1"])
      >>> fl.evaluate(own, alone)["loss"] < fl.evaluate(model, alone)["loss"]
      True
    """
    check_compiled(model)
    if not isinstance(own, ClientData):
        raise TypeError(
            f"own is a {type(own).__name__}; allowed: a fedlab.clients.ClientData, see ClientData.from_dict."
        )
    if client_id not in own:
        raise ValueError(f"client_id is {client_id!r:.60}; allowed: one of `client_ids` of `own`.")
    setting = client_setting(
        model, own, algorithm, Batching(batch_size, local_epochs, max_batches=max_batches), seed
    )
    check_personalization(setting.algorithm, own, [client_id])
    with replicas(setting, 1) as (workers, arrays):
        (weights,) = personal_weights(setting, workers, *arrays, 1, [client_id])
    return with_weights(clone(model), *weights)


def client_setting(model, clients, algorithm, reading, seed):
    """The `Setting` in which clients make a model their own, outside of a simulation; `algorithm`: None for fine-tuning."""
    return Setting(
        model=model,
        build=lambda: clone(model),
        clients=clients,
        algorithm=prepare(algorithm or fine_tuning(), model),
        aggregator=aggregators.mean(),
        batching=reading.check(),
        seed=seeding.check_seed(seed),
        workers=None,
    )


@contextlib.contextmanager
def replicas(setting, num_workers):
    """(`Workers` of the setting's model, its weights as `weight_arrays` gives them); closed at the end."""
    workers = Workers(setting.build, setting.clients, num_workers)
    try:
        yield workers, weight_arrays(setting.model)
    finally:
        workers.close()


def check_personalization(algorithm, own, test):
    """Raises ValueError where clients of `test` could not make a model their own."""
    if algorithm.personalize is None:
        raise ValueError(
            f"algorithm {algorithm.name!r} does not say how clients make the model their own: wrap it, fedlab.algorithms.fine_tuning(...)."
        )
    missing = [client_id for client_id in test if client_id not in own]
    if missing:
        raise ValueError(
            f"{len(missing)} clients have test examples but none of their own, such as {missing[:3]}: select the others."
        )


def evaluate_clients(setting, workers, trainable, non_trainable, own, test, round_num, batch_size):
    """As `evaluate_personalized`, for weights (lists of arrays) put into the replicas of `workers`, and the batches of `setting`."""
    replica = workers.any_replica()
    work = client_work(setting, replica, trainable, non_trainable, own, test, round_num, batch_size)
    return merged(workers, work, test.client_ids)


def client_work(setting, replica, trainable, non_trainable, own, test, round_num, batch_size):
    """What `merged` does for a client of `test`; the arguments are those of `evaluate_clients`, and any replica."""
    size = replica.fixed_size or batch_size
    fill = batching.fill_for(replica.model, Batching(size))
    open_test = blocks.open_rows(test.schema)

    def test_client(replica, state, test):
        return test_batches(replica, test, open_test, state)

    personal = _personal_work(
        setting._replace(clients=own),
        trainable,
        non_trainable,
        round_num,
        test_client,
        ("test", str(open_test)),
    )

    def work(replica, client_id, state):
        tested = batching.in_order(test.in_schema(client_id), size, fill)
        return personal(
            replica,
            client_id,
            [tf.constant(values) for values in state],
            blocks.make_block([tested], open_test),
        )

    return work


def personal_weights(setting, workers, trainable, non_trainable, round_num, client_ids):
    """The (trainable, non-trainable) weights of each client, lists of arrays, after it has made the model its own."""

    def read(replica, _):
        parts = replica.model.trainable_variables, non_trainable_weights(replica.model)
        return [[variable.read_value() for variable in variables] for variables in parts]

    personal = _personal_work(setting, trainable, non_trainable, round_num, read, "weights")
    return workers.map(lambda replica, client_id: personal(replica, client_id, ()), client_ids)


def _personal_work(setting, trainable, non_trainable, round_num, use, key):
    """A function that makes the model a client's own and gives what `use` does.

    Args:
      setting: its clients have the examples that the model is made their own on.
      trainable, non_trainable, round_num: as in `evaluate_clients`.
      use: in a graph that finds the client's weights in `replica`'s variables: (replica, state, *data) -> a nest of tensors.
      key: what tells this `use` from others, hashable.

    The function takes a replica, the client's id, a state of fixed shapes, and more data. It returns a nest of arrays.
    """
    setting = setting._replace(conditions=None)
    open_own = blocks.open_rows(setting.clients.schema)
    shared = Shared(tf.constant(round_num, tf.int64), (), ())
    weights = (
        [tf.convert_to_tensor(w) for w in trainable],
        [tf.convert_to_tensor(w) for w in non_trainable],
        shared,
    )

    def work(replica, client_id, state, *more):
        part = batching.client_batches(
            setting, 0, client_id
        )  # rounds count from 1: the same batches in every evaluation
        counts = Counts(part.examples.sum(), part.tokens.sum(), np.float32(len(part.real)))
        data = blocks.make_block([part], open_own), *more
        (client,) = clients_of(setting.seed, 0, [client_id])
        fixed = *weights, tf.nest.map_structure(tf.constant, (counts, client)), state
        of_this = setting.algorithm.personalize, str(open_own), key
        function = replica.function(
            of_this, lambda replica: _personal_function(replica, setting, use), fixed, data
        )
        return tf.nest.map_structure(np.asarray, function(*fixed, *data))

    return work


def _personal_function(replica, setting, use):
    """The graph in which a client makes the model its own with `replica`'s variables, which `use` then finds."""
    algorithm = setting.algorithm
    names = [f"personalize.{function} of {algorithm.name!r}" for function in ("init", "step")]
    run = client_function(replica, setting, algorithm.personalize, names)

    @tf.function
    def use_own(weights, non_trainable, shared, who, state, own, *more):
        personal, _ = run(
            weights, non_trainable, shared, own, tf.constant(0), *who, (), tf.constant(0)
        )
        personal = check_weights(
            personal, weights, f"what personalize.final of {algorithm.name!r} returns"
        )
        assign(replica.model.trainable_variables, personal)
        return use(replica, state, *more)

    return use_own
