"""What must hold for every aggregator."""

import contextlib

import numpy as np
import tensorflow as tf

from fedlab.aggregators import Aggregator
from fedlab.aggregators import aggregator as aggregator_lib
from fedlab.algorithms import fed_avg
from fedlab.clients import Batching, ClientData, seeding
from fedlab.engines import local
from fedlab.engines.engine import Setting
from fedlab.learner import clone, weight_arrays
from fedlab.testing._check import check

NUM_CLIENTS = 8
_SHAPES = ([3, 2], [4], [])


def check_aggregator(aggregator: Aggregator) -> None:
    """Checks that an aggregator keeps its contract; see `fedlab.aggregators.aggregator`.

    - The update has the shapes and dtypes of the model's weights. The state keeps its
      structure, so that it fits into a checkpoint.
    - Merged blocks of clients give the same result as one block, and the order of
      clients does not matter, up to rounding.
    - A client of weight 0 has no effect. If all weights are 0, the result is finite.
    - In the engine, graphs are traced only in the first round. The number of workers
      and an interruption do not change the bits. A client with a non-finite update is
      dropped and counted. Weights stay finite in a round in which all clients are
      dropped.

    Args:
      aggregator: an `Aggregator` for rounds of six to eight clients out of eight, with
        equal client weights.

    Raises:
      AssertionError: the message says what does not hold.

    Example:
      >>> import fedlab as fl
      >>> fl.testing.check_aggregator(fl.aggregators.trimmed_mean(0.2))
    """
    aggregator_lib.check(aggregator)
    _check_functions(aggregator)
    _check_engine(aggregator)


def _check_functions(aggregator):
    weights = [tf.zeros(shape) for shape in _SHAPES]
    rng = np.random.default_rng(0)
    deltas = [tf.constant(rng.normal(size=[NUM_CLIENTS, *shape]), tf.float32) for shape in _SHAPES]
    seeds = tf.constant([seeding.stateless(0, "aggregator", 1, k) for k in range(NUM_CLIENTS)])
    report_seed = tf.constant(seeding.stateless(0, "aggregator", 1))

    @tf.function
    def block(state, deltas, client_weights, seeds):
        def one(k, accumulator):
            return k + 1, aggregator.accumulate(
                state, accumulator, [d[k] for d in deltas], client_weights[k], seeds[k]
            )

        loop = (tf.constant(0), aggregator.zero(state, weights))
        return tf.while_loop(
            lambda k, _: k < tf.shape(client_weights)[0], one, loop, parallel_iterations=1
        )[1]

    any_number = (
        [tf.TensorSpec([None, *shape]) for shape in _SHAPES],
        tf.TensorSpec([None]),
        tf.TensorSpec([None, 2], tf.int64),
    )
    first_state = aggregator.init(weights)
    block = block.get_concrete_function(
        tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), first_state), *any_number
    )

    def fold(state, order, sizes, client_weights=None):
        """The report on clients in an order, in blocks of the sizes given."""
        client_weights = tf.ones([NUM_CLIENTS]) if client_weights is None else client_weights
        accumulator, order = None, list(order)
        for size in sizes:
            rows, order = order[:size], order[size:]
            arguments = (
                [tf.gather(d, rows) for d in deltas],
                tf.gather(client_weights, rows),
                tf.gather(seeds, rows),
            )
            part = block(state, *arguments)
            accumulator = part if accumulator is None else aggregator.merge(accumulator, part)
        return aggregator.report(state, accumulator, report_seed)

    everyone = range(NUM_CLIENTS)
    delta, state, metrics = fold(first_state, everyone, [NUM_CLIENTS])
    for update, weight in zip(delta, weights, strict=True):
        same = (update.shape, update.dtype) == (weight.shape, weight.dtype)
        check(same, f"an update is {update}, the weight {weight}")
    _check_same_structure(first_state, state)
    scalars = all(np.ndim(value) == 0 for value in metrics.values())
    check(scalars, f"the metrics are not scalars: {metrics}")
    again = fold(first_state, everyone, [NUM_CLIENTS])
    check(
        _same_bits((delta, state), again[:2]),
        "the same clients and seeds give other bits the second time",
    )
    _check_close(
        (delta, state, metrics),
        fold(first_state, everyone, [3, 3, 2]),
        "merged blocks differ from one block",
    )
    _check_close(
        (delta, state, metrics),
        fold(first_state, rng.permutation(NUM_CLIENTS), [NUM_CLIENTS]),
        "the clients' order matters",
    )
    silent = tf.concat([tf.ones([NUM_CLIENTS - 1]), tf.zeros([1])], axis=0)
    without = fold(first_state, everyone, [NUM_CLIENTS], silent)
    _check_close(
        without,
        fold(first_state, range(NUM_CLIENTS - 1), [NUM_CLIENTS - 1]),
        "a client of weight 0 counts",
    )
    nobody = fold(first_state, everyone, [NUM_CLIENTS], tf.zeros([NUM_CLIENTS]))
    finite = all(np.isfinite(t).all() for t in tf.nest.flatten(nobody[:2]))
    check(finite, "clients of weight 0 alone give a number that is not finite")


def _check_engine(aggregator):
    rng = np.random.default_rng(1)
    # The last client, which the first round lacks, has more batches.
    sizes = {f"c{k}": 6 if k < NUM_CLIENTS - 1 else 10 for k in range(NUM_CLIENTS)}
    columns = {
        c: {"x": rng.normal(size=[size, 4]).astype(np.float32), "y": rng.integers(3, size=size)}
        for c, size in sizes.items()
    }
    columns["c2"]["x"][0, 0] = np.nan
    model = tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(3)])
    model.compile(
        tf.keras.optimizers.SGD(0.1),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    first, second = [f"c{k}" for k in range(NUM_CLIENTS - 1)], ["c5", "c3", "c0", "c7", "c6", "c1"]

    traces = []

    def counted(algorithm):
        """The algorithm, leaving a mark in `traces` whenever its graph is made."""

        def client_init(*arguments):
            traces.append(None)
            return algorithm.client_init(*arguments)

        return algorithm._replace(client_init=client_init)

    def started(num_workers):
        setting = Setting(
            model=model,
            build=lambda: clone(model),
            clients=ClientData.from_dict(columns),
            algorithm=counted(fed_avg(client_weighting="uniform")),
            aggregator=aggregator,
            batching=Batching(batch_size=4),
            seed=0,
            num_workers=num_workers,
        )
        return contextlib.closing(local.start(setting))

    def run(process, state, first_round=1):
        """For each round from `first_round` on: (state, result, how often graphs were traced)."""
        for round_num in range(first_round, len(cohorts) + 1):
            state, result = process.run_round(state, round_num, cohorts[round_num - 1])
            yield state, result, len(traces)

    cohorts = first, second, first
    with started(num_workers=1) as process:
        states, results, traced = zip(*run(process, process.init(*weight_arrays(model))))
        check(traced[0] == traced[-1], "a graph is traced again after the first round")
        weights, arrays = process.weights(states[-1])[0], process.save(states[0])
        state, _ = process.run_round(states[-1], len(cohorts) + 1, [])
        finite = all(np.isfinite(w).all() for w in process.weights(state)[0])
        check(finite, "weights are not finite after a round in which all clients are dropped")
    dropped = [row["client_id"] for row in results[0].clients if row["dropped"]]
    check(
        (dropped, results[0].num_finished) == (["c2"], len(first) - 1),
        f"dropped are {dropped}, finished {results[0].num_finished}",
    )
    finite = all(np.isfinite(w).all() for w in weights)
    check(finite, "a client whose update is not finite reaches the weights")
    with started(num_workers=2) as process:
        initial = process.init(*weight_arrays(model))
        for what, state, first_round in (
            ("an interruption", process.restore(initial, arrays), 2),
            ("the number of workers", initial, 1),
        ):
            states, again, _ = zip(*run(process, state, first_round))
            same = _same_bits(weights, process.weights(states[-1])[0])
            check(same, f"{what} changes the bits")
            metrics = [
                [result.aggregator for result in each]
                for each in (results[first_round - 1 :], again)
            ]
            check(metrics[0] == metrics[1], f"{what} changes the metrics: {metrics}")


def _same_bits(first, second):
    return all(
        np.array_equal(a, b)
        for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True)
    )


def _check_same_structure(first, second):
    tf.nest.assert_same_structure(first, second)
    for before, after in zip(tf.nest.flatten(first), tf.nest.flatten(second)):
        same = (before.shape, before.dtype) == (after.shape, after.dtype)
        check(same, f"the state had {before}, has {after}: checkpoints do not fit")


def _check_close(first, second, message):
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
        np.testing.assert_allclose(
            np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6, err_msg=message
        )
