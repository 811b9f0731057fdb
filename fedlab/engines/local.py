"""The default engine: TensorFlow in this process, as many clients at a time as there are cores.

A cohort is cut into blocks of clients, whose size depends on the cohort alone. A worker trains a whole block in one call of one graph, one
client after the other, and adds their updates up. Blocks are merged in the cohort's order, so that the sum is the same, bit for bit,
whatever the number of workers and whichever ends first.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab import aggregators
from fedlab.algorithms import Counts, optimizers
from fedlab.data import seeding
from fedlab.engines import batches as batching
from fedlab.engines.engine import RoundResult
from fedlab.engines.replica import assign
from fedlab.engines.workers import Workers


class State(NamedTuple):
    """The global model and what the server keeps for itself."""

    trainable: Any
    non_trainable: Any
    server: Any


class Task(NamedTuple):
    """What an algorithm may ask of the client it runs on."""

    gradients: Any
    optimizer: Any


def start(setting):
    """Returns a process for `setting`; see `fedlab.engines.engine`."""
    return LocalProcess(setting)


def block_size(num_clients):
    """Clients a block: a pure function of the cohort, at least 16 blocks where there are clients for them, at most 64 clients each."""
    return min(max(1, num_clients // 16), 64)


class LocalProcess:
    def __init__(self, setting):
        self.setting = setting
        if setting.non_trainable not in ("broadcast", "average"):
            raise ValueError(f"non_trainable is {setting.non_trainable!r}; allowed: 'broadcast', 'average'.")
        first = setting.clients[setting.clients.client_ids[0]]
        batching.check(setting.model, setting.batching, first)
        self._owns_workers = setting.workers is None
        self.workers = setting.workers or Workers(setting.build, first)

    def init(self, trainable, non_trainable):
        trainable = [tf.convert_to_tensor(w) for w in trainable]
        non_trainable = [tf.convert_to_tensor(w) for w in non_trainable]
        return State(trainable, non_trainable, self.setting.algorithm.server_init(trainable))

    def weights(self, state):
        return [np.asarray(w) for w in state.trainable], [np.asarray(w) for w in state.non_trainable]

    def run_round(self, state, round_num, cohort):
        size = block_size(len(cohort))
        blocks = [cohort[i : i + size] for i in range(0, len(cohort), size)]
        aggregator, algorithm = self.setting.aggregator, self.setting.algorithm

        def work(replica, block):
            return self._train(replica, state, round_num, block)

        total, non_trainable, clients, metric_values = None, None, [], 0
        for block, (accumulator, non_trainable_sum, outputs, counts) in zip(blocks, self.workers.map(work, blocks)):
            total = accumulator if total is None else aggregator.merge(total, accumulator)
            if self.setting.non_trainable == "average":
                non_trainable = non_trainable_sum if non_trainable is None else _average.merge(non_trainable, non_trainable_sum)
            clients += _client_rows(block, counts, outputs)
            metric_values = _add(metric_values, [np.asarray(values).sum(axis=0) for values in outputs["metrics"]])

        if not any(client["num_steps"] for client in clients):
            raise batching.no_batch(self.setting.batching, round_num)
        delta, aggregator_metrics = aggregator.report(total)
        trainable, server = algorithm.server_update(state.trainable, state.server, delta)
        kept = state.non_trainable
        if self.setting.non_trainable == "average":
            kept = [w - d for w, d in zip(kept, _average.report(non_trainable)[0])]
        metrics = finalize(self.workers.any_replica(), metric_values)
        num_finished = sum(not client["dropped"] for client in clients)
        aggregated = {name: float(value) for name, value in aggregator_metrics.items()}
        return State(trainable, kept, server), RoundResult(metrics, clients, num_finished, aggregated)

    def save(self, state):
        return [np.asarray(array) for array in tf.nest.flatten(state)]

    def restore(self, state, arrays):
        return tf.nest.pack_sequence_as(state, [tf.convert_to_tensor(array) for array in arrays])

    def close(self):
        if self._owns_workers:
            self.workers.close()

    def _train(self, replica, state, round_num, block):
        setting = self.setting
        parts = [batching.client_batches(setting, round_num, client_id) for client_id in block]
        joined = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        counts = Counts(*(np.array(values, np.float32) for values in zip(*map(_counts, parts))))
        seeds = [seeding.generator(setting.seed, "dropout", round_num, client_id).integers(2**63) for client_id in block]
        weights = list(state.trainable), list(state.non_trainable)
        block_data = (
            {name: tf.convert_to_tensor(column) for name, column in joined.items()},
            tf.constant(np.concatenate([part.sizes for part in parts])),
            tf.constant(np.concatenate([part.examples for part in parts])),
            Counts(*map(tf.constant, counts)),
            tf.constant(seeds, tf.int64),
        )
        function = replica.function(self, lambda replica: _train_function(replica, setting), weights, block_data)
        accumulator, non_trainable_sum, outputs = function(*weights, *block_data)
        return accumulator, non_trainable_sum, outputs, counts


_average = aggregators.mean()


def _counts(part):
    return part.examples.sum(), part.tokens.sum(), len(part.sizes)


def _add(total, values):
    return [t + v for t, v in zip(total, values)] if total else values


def _client_rows(block, counts, outputs):
    weight, finite, loss = (np.asarray(outputs[name]) for name in ("weight", "finite", "loss"))
    return [
        {
            "client_id": client_id,
            "num_examples": int(counts.num_examples[i]),
            "num_tokens": int(counts.num_tokens[i]),
            "num_steps": int(counts.num_steps[i]),
            "weight": float(weight[i]),
            "loss": float(loss[i]),
            "dropped": not finite[i],
        }
        for i, client_id in enumerate(block)
    ]


def _train_function(replica, setting):
    """The graph that trains a block of clients with `replica`'s variables."""
    algorithm, aggregator = setting.algorithm, setting.aggregator
    task = Task(replica.gradients, optimizers.from_keras(replica.model.optimizer))
    average = setting.non_trainable == "average"
    non_trainable_variables = replica.model.non_trainable_variables

    def client(weights, non_trainable, columns, sizes, examples, counts, seed, first_step):
        assign(non_trainable_variables, non_trainable)
        replica.reset_recurrent_states()
        replica.reset_metrics()
        replica.seed(seed)

        def step(i, state):
            batch = {name: column[i] for name, column in columns.items()}
            if not replica.fixed_size:
                batch = {name: column[: sizes[i]] for name, column in batch.items()}
            return i + 1, algorithm.client_step(task, weights, state, replica.batch(batch, examples[i]))

        last_step = first_step + tf.cast(counts.num_steps, tf.int32)
        state = algorithm.client_init(task, weights)
        _, state = tf.while_loop(lambda i, _: i < last_step, step, (first_step, state), parallel_iterations=1)
        return algorithm.client_final(task, weights, state, counts), last_step

    def fold(sums, weights, non_trainable, result):
        """Adds a client to the sums, unless its update is not finite."""
        total, non_trainable_sum = sums
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(d)) for d in result.delta])
        weight = tf.where(finite, result.weight, 0.0)
        delta = [tf.where(finite, d, tf.zeros_like(d)) for d in result.delta]
        total = aggregator.accumulate(total, delta, weight)
        if average:
            changes = [tf.where(finite, w - v, tf.zeros_like(w)) for w, v in zip(non_trainable, non_trainable_variables)]
            non_trainable_sum = _average.accumulate(non_trainable_sum, changes, weight)
        return (total, non_trainable_sum), weight, finite

    @tf.function
    def train_block(weights, non_trainable, columns, sizes, examples, counts, seeds):
        num_clients = tf.shape(seeds)[0]
        out = {
            "weight": tf.TensorArray(tf.float32, num_clients),
            "finite": tf.TensorArray(tf.bool, num_clients),
            "loss": tf.TensorArray(tf.float32, num_clients),
            "metrics": [tf.TensorArray(v.dtype, num_clients, element_shape=v.shape) for v in replica.metric_variables],
        }

        def one(k, first_step, sums, out):
            own_counts = Counts(*(c[k] for c in counts))
            result, next_step = client(weights, non_trainable, columns, sizes, examples, own_counts, seeds[k], first_step)
            sums, weight, finite = fold(sums, weights, non_trainable, result)
            out = {
                "weight": out["weight"].write(k, weight),
                "finite": out["finite"].write(k, finite),
                "loss": out["loss"].write(k, replica.loss.result()),
                "metrics": [a.write(k, tf.where(finite, v, tf.zeros_like(v))) for a, v in zip(out["metrics"], replica.metric_variables)],
            }
            return k + 1, next_step, sums, out

        sums = aggregator.zero(weights), _average.zero(non_trainable) if average else ()
        loop = (tf.constant(0), tf.constant(0), sums, out)
        _, _, (total, non_trainable_sum), out = tf.while_loop(lambda k, *_: k < num_clients, one, loop, parallel_iterations=1)
        return total, non_trainable_sum, tf.nest.map_structure(lambda a: a.stack(), out)

    return train_block


def finalize(replica, values):
    """Metric sums, one array per variable of `replica.metrics`, as name -> float, or name_i where a metric has several values."""
    assign(replica.metric_variables, values)
    results = {}
    for metric in replica.metrics:
        result = np.asarray(metric.result())
        results.update({metric.name: float(result)} if result.ndim == 0 else {f"{metric.name}_{i}": float(r) for i, r in enumerate(result)})
    return results
