"""Evaluation client by client: each makes the global model its own, and is evaluated on its own test data."""

import contextlib

import numpy as np
import tensorflow as tf

from fedlab import aggregators
from fedlab.algorithms import Counts, fine_tuning, prepare
from fedlab.data import Batching, ClientData, seeding
from fedlab.engines import batches as batching
from fedlab.engines import blocks
from fedlab.engines.engine import Setting
from fedlab.engines.local import Shared, client_function, clients_of
from fedlab.engines.replica import assign
from fedlab.engines.structure import check_weights
from fedlab.engines.workers import Workers
from fedlab.models.cloning import check_compiled, clone, non_trainable_weights
from fedlab.simulation.evaluation import check_batch_size, merged, test_batches


def evaluate_personalized(
    model, own, test, algorithm=None, *, batch_size=8, local_epochs=1, max_batches=None, evaluation_batch_size=64, seed=0, num_workers=None
):
    """Evaluates a compiled Keras model after every client has made it its own.

        each client k of `test`:  w_k = the algorithm's personalization of the model on the client's examples in `own`
        loss and metrics: those of the clients' test examples together, each at its client's w_k

    Args:
      model: a compiled Keras model; it is not changed.
      own, test: `ClientData`: what clients adapt to, and what they are evaluated on. Every client of `test` has to be in `own`.
      algorithm: one with a personalization: `fedlab.algorithms.fed_recon(...)`, or `fedlab.algorithms.fine_tuning()`, the default.
      batch_size, local_epochs, max_batches: how a client reads its own examples; see `fedlab.data.Batching`.
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
            raise TypeError(f"{name} is a {type(clients).__name__}; allowed: a fedlab.data.ClientData, see ClientData.from_dict.")
    reading = Batching(batch_size, local_epochs, max_batches=max_batches)
    setting = client_setting(model, own, algorithm, reading, seed)
    check_personalization(setting.algorithm, own, test)
    with replicas(setting, num_workers) as (workers, arrays):
        return evaluate_clients(setting, workers, *arrays, own, test, 1, evaluation_batch_size)


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
    """(`Workers` of the setting's model, its [trainable, non-trainable] weights as lists of arrays); closed at the end."""
    model = setting.model
    workers = Workers(setting.build, setting.clients, num_workers)
    try:
        yield workers, [[w.numpy() for w in weights] for weights in (model.trainable_weights, non_trainable_weights(model))]
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
        raise ValueError(f"{len(missing)} clients have test examples but none of their own, such as {missing[:3]}: select the others.")


def evaluate_clients(setting, workers, trainable, non_trainable, own, test, round_num, batch_size):
    """As `evaluate_personalized`, for weights (lists of arrays) put into the replicas of `workers`, and the batches of `setting`."""
    replica = workers.any_replica()
    work = client_work(setting, replica, trainable, non_trainable, own, test, round_num, batch_size)
    return merged(workers, work, test.client_ids)


def client_work(setting, replica, trainable, non_trainable, own, test, round_num, batch_size):
    """What `merged` does for a client of `test`; the arguments are those of `evaluate_clients`, and any replica."""
    setting = setting._replace(clients=own, conditions=None)
    size = replica.fixed_size or batch_size
    fill = batching.fill_for(replica.model, Batching(size))
    open_own, open_test = blocks.open_rows(own.schema), blocks.open_rows(test.schema)
    shared = Shared(tf.constant(round_num, tf.int64), (), ())
    weights = [tf.convert_to_tensor(w) for w in trainable], [tf.convert_to_tensor(w) for w in non_trainable], shared

    def work(replica, client_id, state):
        part = batching.client_batches(setting, 0, client_id)  # rounds count from 1: the same batches in every evaluation
        counts = Counts(part.examples.sum(), part.tokens.sum(), np.float32(len(part.real)))
        tested = batching.in_order(test.in_schema(client_id), size, fill)
        data = blocks.make_block([part], open_own), blocks.make_block([tested], open_test)
        (client,) = clients_of(setting.seed, 0, [client_id])
        fixed = *weights, tf.nest.map_structure(tf.constant, (counts, client)), [tf.constant(values) for values in state]
        key = setting.algorithm.personalize, str(open_own), str(open_test)
        function = replica.function(key, lambda replica: _personal_function(replica, setting, open_test), fixed, data)
        return [np.asarray(values) for values in function(*fixed, *data)]

    return work


def _personal_function(replica, setting, open_test):
    """The graph in which a client makes the model its own with `replica`'s variables, and tests it."""
    algorithm = setting.algorithm
    names = [f"personalize.{function} of {algorithm.name!r}" for function in ("init", "step")]
    run = client_function(replica, setting, algorithm.personalize, names)

    @tf.function
    def test_client(weights, non_trainable, shared, who, state, own, test):
        personal, _ = run(weights, non_trainable, shared, own, tf.constant(0), *who, (), tf.constant(0))
        personal = check_weights(personal, weights, f"what personalize.final of {algorithm.name!r} returns")
        assign(replica.model.trainable_variables, personal)
        return test_batches(replica, test, open_test, state)

    return test_client
