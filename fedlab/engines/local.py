"""The default engine: TensorFlow in this process, as many clients at a time as there are cores.

A cohort is ordered by size and cut into blocks of clients, whose size depends on the cohort alone. A worker trains a whole block in one
call of one graph, one client after the other, and adds their updates up. Blocks are merged in that order, so that the sum is the same, bit
for bit, whatever the number of workers and whichever ends first; and the largest clients start first, so that no core waits for them at
the end.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab import aggregators, optimizers
from fedlab.aggregators import privacy
from fedlab.algorithms import Counts, Pass, Task, Update, prepare
from fedlab.algorithms.weighting import client_weight
from fedlab.clients import seeding
from fedlab.clients.client_stats import ClientHistory
from fedlab.engines import batches as batching
from fedlab.engines import blocks as blocks_lib
from fedlab.engines import structure
from fedlab.engines.engine import RoundResult, averaged_weights
from fedlab.engines.workers import Workers
from fedlab.learner.keras2 import metric_state
from fedlab.learner.keras2.cloning import non_trainable_weights
from fedlab.learner.keras2.precision import in_precision
from fedlab.learner.keras2.replica import assign
from fedlab.runs.write import client_states


class State(NamedTuple):
    """The global model and what the server keeps for itself."""

    trainable: Any
    non_trainable: Any
    server: Any
    aggregator: Any


class Client(NamedTuple):
    """Who a client is, and the seeds of its draws. Of a block: tensors of [clients, ...].

    Attributes:
      id: string scalar.
      layers: int64 scalar, the seed of dropout and the like in this round.
      aggregator: int64 [2], the seed of the aggregator's draws in this round.
      seed: int64 [2], the seed of the algorithm's draws in this round.
      lasting_seed: int64 [2], the same in every round.
    """

    id: Any
    layers: Any
    aggregator: Any
    seed: Any
    lasting_seed: Any


class Shared(NamedTuple):
    """What all clients of a round are told beside the weights."""

    round_num: Any
    broadcast: Any
    survey: Any


def start(setting):
    """Returns a process for `setting`; see `fedlab.engines.engine`."""
    return LocalProcess(setting)


def block_size(num_clients):
    """Clients a block: a pure function of the cohort, at least 16 blocks where there are clients for them, at most 64 clients each."""
    return min(max(1, num_clients // 16), 64)


class LocalProcess:
    def __init__(self, setting):
        algorithm = prepare(setting.algorithm, setting.model, setting.client_learning_rate)
        self.setting = setting = setting._replace(algorithm=algorithm)
        self._averaged = averaged_weights(setting)
        self._open_rows = batching.open_rows(setting)
        privacy.check(setting.aggregator.privacy, setting.algorithm, [*self._averaged.values()])
        first = setting.clients.example()
        batching.check(setting.model, setting.batching, first)
        optimizers.check_model(setting.model, setting.client_learning_rate)
        build = in_precision(setting.build, setting.precision)
        # Workers that are shared evaluate, which stays float32.
        self._owns_workers = setting.workers is None or setting.precision != "float32"
        num_workers = setting.workers and setting.workers.num_workers
        self.workers = (
            Workers(build, setting.clients, num_workers) if self._owns_workers else setting.workers
        )
        metric_state.warn_of_left_out(self.workers.merger.unmergeable)
        self._client_states = setting.client_states or client_states.ClientStates()
        self._room = (
            None,
            [],
        )  # what `_kept` fills for each block, in the one thread that prepares them

    def init(self, trainable, non_trainable):
        trainable = [tf.convert_to_tensor(w) for w in trainable]
        non_trainable = [tf.convert_to_tensor(w) for w in non_trainable]
        setting = self.setting
        privacy.check_extras(
            setting.aggregator.privacy,
            setting.algorithm,
            setting.algorithm.survey or setting.algorithm.extras(trainable),
        )
        algorithm = setting.algorithm
        server = structure.tensors(
            algorithm.server_init(trainable),
            f"the state that server_init of {algorithm.name!r} returns",
        )
        return State(trainable, non_trainable, server, setting.aggregator.init(trainable))

    def weights(self, state):
        return [np.asarray(w) for w in state.trainable], [
            np.asarray(w) for w in state.non_trainable
        ]

    def run_round(self, state, round_num, cohort):
        blocks, client_weights = self._blocks(cohort), self._client_weights(cohort)
        aggregator, algorithm = self.setting.aggregator, self.setting.algorithm
        merger, metric_names = self.workers.merger, self.workers.any_replica().metric_names
        shared, first_state = self._before_clients(state, round_num, blocks, client_weights)
        weights = list(state.trainable), list(state.non_trainable), shared, state.aggregator
        trained = self._train(
            _train_function, weights, blocks, round_num, first_state, client_weights
        )
        total, extras, non_trainable, clients, metric_values = None, None, None, [], merger.initial
        for block, result in zip(blocks, trained):
            accumulator, extras_sum, non_trainable_sum, outputs, counts = result
            total = accumulator if total is None else aggregator.merge(total, accumulator)
            extras = (
                extras_sum if extras is None else tf.nest.map_structure(tf.add, extras, extras_sum)
            )
            self._keep(round_num, block, outputs)
            if self._averaged:
                non_trainable = (
                    non_trainable_sum
                    if non_trainable is None
                    else _average.merge(non_trainable, non_trainable_sum)
                )
            clients += _client_rows(block, counts, outputs, metric_names)
            _check_client_weights(algorithm, clients[-len(block) :])
            finite = np.asarray(outputs["finite"])
            metric_values = merger.merge(
                metric_values, [np.asarray(values)[finite] for values in outputs["metrics"]]
            )
        if not blocks:
            total, extras, non_trainable = self._sums_of_nobody(state)
        if self.setting.client_states is None:
            self._client_states.commit()

        place = {client_id: i for i, client_id in enumerate(cohort)}
        clients.sort(key=lambda client: place[client["client_id"]])
        if clients and not any(client["num_steps"] for client in clients):
            raise batching.no_batch(self.setting.batching, round_num)
        seed = tf.constant(seeding.stateless(self.setting.seed, "aggregator", round_num))
        delta, aggregator_state, aggregator_metrics = aggregator.report(
            state.aggregator, total, seed
        )
        structure.check_weights(
            delta, state.trainable, f"the update that {aggregator.name} reports"
        )
        num_finished = sum(not client["dropped"] for client in clients)
        numbers = (
            tf.constant(num_finished, tf.float32),
            tf.constant(len(self.setting.clients), tf.float32),
        )
        update = Update(delta, extras, shared.survey, *numbers, shared.round_num)
        trainable, server = structure.check_updated(
            algorithm.server_update(state.trainable, state.server, update),
            state.trainable,
            state.server,
            algorithm.name,
        )
        kept = list(state.non_trainable)
        if self._averaged:
            for i, change in zip(self._averaged, _average.report((), non_trainable, None)[0]):
                kept[i] = _changed(kept[i], change)
        metrics = metric_state.training_metrics(
            self.workers.any_replica(), metric_values, merger.unmergeable
        )
        aggregated = {name: float(value) for name, value in aggregator_metrics.items()}
        more_bytes = (
            _num_bytes((shared.broadcast, shared.survey)),
            _num_bytes((extras, shared.survey)),
        )
        return State(trainable, kept, server, aggregator_state), RoundResult(
            metrics, clients, num_finished, aggregated, *more_bytes
        )

    def run_client(self, state, round_num, client_id, cohort):
        """Trains one client in the first round of a run, or in a later one of an algorithm that keeps nothing between rounds.

        Args:
          state: of the process.
          round_num: int.
          client_id: the client.
          cohort: the round's client ids, which the algorithm's survey is of.

        Returns:
          (its `ClientResult` with arrays, the changes of the non-trainable weights that are averaged, whether all of that is finite, the
          metrics of its training, its `Counts`, arrays [1]).
        """
        algorithm, client_weights = self.setting.algorithm, self._client_weights(cohort)
        shared, first_state = self._before_clients(
            state, round_num, self._blocks(cohort), client_weights
        )
        if round_num > 1 and (algorithm.weigh or tf.nest.flatten((shared.broadcast, first_state))):
            raise ValueError(
                f"round_num is {round_num}; allowed with {algorithm.name!r}, which depends on the rounds before: 1."
            )
        weights = list(state.trainable), list(state.non_trainable), shared
        trained = self._train(
            _one_client_function, weights, [[client_id]], round_num, first_state, client_weights
        )
        ((result, changes, finite, metric_values, counts),) = trained
        result, changes, metric_values = tf.nest.map_structure(
            np.asarray, (result, changes, metric_values)
        )
        metrics = metric_state.training_metrics(self.workers.any_replica(), metric_values)
        return result, changes, bool(finite), metrics, counts

    def save(self, state):
        return [np.asarray(array) for array in tf.nest.flatten(state)]

    def restore(self, state, arrays):
        return tf.nest.pack_sequence_as(state, [tf.convert_to_tensor(array) for array in arrays])

    def close(self):
        if self._owns_workers:
            self.workers.close()
        if self.setting.client_states is None:
            self._client_states.close()

    def _before_clients(self, state, round_num, blocks, client_weights):
        """What clients are told beside the weights, and the state of those that have not kept one."""
        algorithm = self.setting.algorithm
        sent = structure.tensors(
            algorithm.broadcast(state.server), f"what broadcast of {algorithm.name!r} returns"
        )
        shared = Shared(tf.constant(round_num, tf.int64), sent, ())
        if algorithm.survey:
            shared = shared._replace(
                survey=self._survey(state, shared, round_num, blocks, client_weights)
            )
        return shared, structure.tensors(
            algorithm.client_state(state.trainable),
            f"what client_state of {algorithm.name!r} returns",
        )

    def _train(self, make, weights, blocks, round_num, first_state, client_weights):
        """Yields what a graph gives for each block of clients, and their counts.

        Args:
          make: (replica, setting) -> the graph, a function of (*weights, *data).
          weights, blocks, round_num: the graph's first arguments, the clients, and the round.
          first_state, client_weights: what `_before_clients` and `_client_weights` returned.
        """

        def prepare(block):
            data, counts = self._block_data(round_num, block, client_weights)
            return (*data, self._kept(first_state, round_num, block)), counts

        def work(replica, prepared):
            data, counts = prepared
            function = replica.function(
                (self, make), lambda replica: make(replica, self.setting), weights, data
            )
            return *function(*weights, *data), counts

        return self.workers.map(work, blocks, prepare)

    def _sums_of_nobody(self, state):
        """What accumulator, extras and changes of the non-trainable weights sum to without a client."""
        weights = list(state.trainable)
        unchanged = [
            _change(state.non_trainable[i], state.non_trainable[i]) for i in self._averaged
        ]
        accumulator = self.setting.aggregator.zero(state.aggregator, weights)
        return accumulator, self.setting.algorithm.extras(weights), _average.zero((), unchanged)

    def _blocks(self, cohort):
        by_size = sorted(cohort, key=self.setting.clients.num_examples, reverse=True)
        size = block_size(len(cohort))
        return [by_size[i : i + size] for i in range(0, len(cohort), size)]

    def _client_weights(self, cohort):
        """Client id -> what the algorithm's `weigh` gives it, or nothing."""
        weigh = self.setting.algorithm.weigh
        if weigh is None:
            return {}
        history = self.setting.client_history or ClientHistory(self.setting.clients)
        return {client_id: client_weight(weigh, history[client_id]) for client_id in cohort}

    def _survey(self, state, shared, round_num, blocks, client_weights):
        """The sum of the algorithm's survey over the cohort."""
        weights = list(state.trainable), list(state.non_trainable), shared

        def work(replica, data):
            function = replica.function(
                (self, "survey"),
                lambda replica: _survey_function(replica, self.setting),
                weights,
                data,
            )
            return function(*weights, *data)

        sums = self.workers.map(
            work, blocks, lambda block: self._block_data(round_num, block, client_weights)[0]
        )
        nobody = (
            self.setting.algorithm.survey.zero(list(state.trainable)) if not blocks else next(sums)
        )
        return functools.reduce(
            lambda total, more: tf.nest.map_structure(tf.add, total, more), sums, nobody
        )

    def _block_data(self, round_num, block, client_weights):
        """The batches of a block's clients as tensors, and the clients' counts."""
        setting = self.setting
        parts = [batching.client_batches(setting, round_num, client_id) for client_id in block]
        counts = Counts(*(np.array(values, np.float32) for values in zip(*map(_counts, parts))))
        counts = counts._replace(
            client_weight=np.array(
                [client_weights.get(client_id, 1.0) for client_id in block], np.float32
            )
        )
        data = (
            blocks_lib.make_block(parts, self._open_rows),
            Counts(*map(tf.constant, counts)),
            Client(
                *(
                    tf.constant(np.stack(values))
                    for values in zip(*clients_of(setting.seed, round_num, block))
                )
            ),
        )
        return data, counts

    def _kept(self, first_state, round_num, block):
        """What the clients of a block kept of their last round: a nest like `first_state` of tensors [clients, ...]."""
        first = [np.asarray(array) for array in tf.nest.flatten(first_state)]
        if not first:
            return first_state
        size = len(block), *(array.shape for array in first)
        if self._room[0] != size:  # fresh memory costs more than what is written into it
            self._room = (
                size,
                [np.empty([len(block), *array.shape], array.dtype) for array in first],
            )
        for i, client_id in enumerate(block):
            data = self._client_states.read(client_id, round_num)
            for rows, array in zip(
                self._room[1], first if data is None else client_states.unpack(data, first)
            ):
                rows[i] = array
        return tf.nest.pack_sequence_as(first_state, [tf.constant(rows) for rows in self._room[1]])

    def _keep(self, round_num, block, outputs):
        arrays = [np.asarray(array) for array in outputs["state"]]
        if arrays:
            finite = np.flatnonzero(outputs["finite"])
            self._client_states.write(
                round_num,
                ((block[i], client_states.pack([array[i] for array in arrays])) for i in finite),
            )


_average = aggregators.mean()


def clients_of(seed, round_num, client_ids):
    """Each client's `Client` in a round."""
    return [
        Client(
            id=client_id,
            layers=seeding.generator(seed, "dropout", round_num, client_id).integers(2**63),
            aggregator=seeding.stateless(seed, "aggregator", round_num, client_id),
            seed=seeding.stateless(seed, "client", round_num, client_id),
            lasting_seed=seeding.stateless(seed, "client", client_id),
        )
        for client_id in client_ids
    ]


def _num_bytes(nest):
    return sum(x.dtype.size * x.shape.num_elements() for x in tf.nest.flatten(nest))


def _is_counted(dtype):
    """Whether values are integers or bools: their changes are averaged in float64 and rounded."""
    return dtype.is_integer or dtype.is_bool


def _change(before, after):
    """A non-trainable weight before minus after training, in a dtype that has averages."""
    if not _is_counted(before.dtype):
        return before - after
    # Unsigned integers would wrap around.
    return tf.cast(tf.cast(before, tf.int64) - tf.cast(after, tf.int64), tf.float64)


def _changed(before, change):
    """A non-trainable weight minus an averaged change. Without a change it keeps its bits."""
    if not _is_counted(before.dtype):
        return before - change
    return tf.cast(tf.cast(before, tf.int64) - tf.cast(tf.round(change), tf.int64), before.dtype)


def _counts(part):
    return part.examples.sum(), part.tokens.sum(), len(part.real)


def _client_rows(block, counts, outputs, metric_names):
    weight, finite, results = (
        np.asarray(outputs[name]) for name in ("weight", "finite", "results")
    )
    metrics = [dict(zip(metric_names, map(float, values))) for values in results]
    return [
        {
            "client_id": client_id,
            "num_examples": int(counts.num_examples[i]),
            "num_tokens": int(counts.num_tokens[i]),
            "num_steps": int(counts.num_steps[i]),
            "weight": float(weight[i]),
            "loss": metrics[i].pop("loss") if counts.num_examples[i] else None,
            "dropped": not finite[i],
            "metrics": metrics[i] if counts.num_examples[i] else {},
        }
        for i, client_id in enumerate(block)
    ]


def _check_client_weights(algorithm, clients):
    negative = [client for client in clients if client["weight"] < 0]
    if negative:
        raise ValueError(
            f"client_final of {algorithm.name!r} gives client {negative[0]['client_id']!r} the weight {negative[0]['weight']:g}; "
            "allowed: 0 or more."
        )


def client_function(replica, setting, work, names):
    """A function for graphs that runs one client: a `Pass` over the client's batches, with `replica`'s variables.

    Args:
      replica: a `Replica`.
      setting: the run's.
      work: the `Pass`.
      names: what the pass's `init` and `step` are called in errors.

    The function takes the weights, the non-trainable weights and `Shared`; a `Block` and the client's number in it; the client's counts,
    `Client`, kept state, and first step in the block. It returns the pass's result and the next client's first step.
    """
    fill = batching.fill_for(replica.model, setting.batching)
    open_rows = batching.open_rows(setting)
    optimizer = optimizers.of_model(replica.model, setting.client_learning_rate)

    def run(weights, non_trainable, shared, block, k, counts, client, kept, first_step):
        assign(non_trainable_weights(replica.model), non_trainable)
        replica.reset_recurrent_states()
        replica.reset_metrics()
        replica.seed(client.layers)
        own_optimizer = optimizers.in_round(optimizer, shared.round_num)
        task = Task(
            replica.gradients,
            own_optimizer,
            counts,
            client=client,
            client_state=kept,
            **shared._asdict(),
        )

        examples = blocks_lib.examples_of(block, k, open_rows)

        def step(i, state):
            batch = blocks_lib.batch_columns(block, examples, i, replica.fixed_size, fill)
            after = work.step(task, weights, state, replica.batch(batch, block.num_examples[i]))
            remedy = f"A step keeps the nesting, dtypes and shapes of what {names[0]} returns."
            return i + 1, structure.check_alike(
                after, state, f"the state that {names[1]} returns", remedy
            )

        last_step = first_step + tf.cast(counts.num_steps, tf.int32)
        state = structure.tensors(work.init(task, weights), f"the state that {names[0]} returns")
        _, state = tf.while_loop(
            lambda i, _: i < last_step, step, (first_step, state), parallel_iterations=1
        )
        return work.final(task, weights, state, counts), last_step

    return run


def _is_finite(nest):
    """Whether all floating-point tensors of a nest are finite: a bool scalar."""
    numbers = [tf.abs(x) if x.dtype.is_complex else x for x in tf.nest.flatten(nest)]
    return tf.reduce_all(
        [tf.reduce_all(tf.math.is_finite(x)) for x in numbers if x.dtype.is_floating]
    )


def _training(replica, setting):
    """As `client_function`, of the algorithm's training."""
    algorithm = setting.algorithm
    work = Pass(algorithm.client_init, algorithm.client_step, algorithm.client_final)
    return client_function(
        replica,
        setting,
        work,
        [f"{function} of {algorithm.name!r}" for function in ("client_init", "client_step")],
    )


def _one_client_function(replica, setting):
    """The graph that trains the one client of a block with `replica`'s variables."""
    algorithm, train = setting.algorithm, _training(replica, setting)
    averaged, non_trainable_variables = (
        list(averaged_weights(setting)),
        non_trainable_weights(replica.model),
    )

    @tf.function
    def train_one(weights, non_trainable, shared, block, counts, clients, kept):
        own_counts, client, own_kept = tf.nest.map_structure(
            lambda values: values[0], (counts, clients, kept)
        )
        result, _ = train(
            weights,
            non_trainable,
            shared,
            block,
            tf.constant(0),
            own_counts,
            client,
            own_kept,
            tf.constant(0),
        )
        extras = structure.tensors(
            algorithm.extras(weights), f"what extras of {algorithm.name!r} returns"
        )
        result = structure.check_result(result, weights, extras, own_kept, algorithm.name)
        changes = [_change(non_trainable[i], non_trainable_variables[i]) for i in averaged]
        return (
            result,
            changes,
            _is_finite((result, changes)),
            [variable.read_value() for variable in replica.metric_variables],
        )

    return train_one


def _train_function(replica, setting):
    """The graph that trains a block of clients with `replica`'s variables."""
    algorithm, aggregator = setting.algorithm, setting.aggregator
    train = _training(replica, setting)
    averaged = list(averaged_weights(setting))
    non_trainable_variables = non_trainable_weights(replica.model)

    def fold(sums, non_trainable, aggregator_state, result, seed):
        """Adds a client to the sums; one whose result is not finite has weight 0 and adds nothing."""
        changes = [_change(non_trainable[i], non_trainable_variables[i]) for i in averaged]
        finite = _is_finite((result, changes))

        def added():
            total, extras, non_trainable_sum = sums
            folded = aggregator.accumulate(
                aggregator_state, total, result.delta, result.weight, seed
            )
            total = structure.check_alike(
                folded,
                total,
                f"what accumulate of {aggregator.name} returns",
                "zero gives its form.",
            )
            extras = tf.nest.map_structure(tf.add, extras, result.extras)
            if averaged:
                non_trainable_sum = _average.accumulate(
                    (), non_trainable_sum, changes, result.weight, None
                )
            return total, extras, non_trainable_sum

        return tf.cond(finite, added, lambda: sums), tf.where(finite, result.weight, 0.0), finite

    @tf.function
    def train_block(weights, non_trainable, shared, aggregator_state, block, counts, clients, kept):
        num_clients = tf.shape(clients.id)[0]
        out = {
            "weight": tf.TensorArray(tf.float32, num_clients),
            "finite": tf.TensorArray(tf.bool, num_clients),
            "results": tf.TensorArray(
                tf.float32, num_clients, element_shape=[len(replica.metric_names)]
            ),
            "metrics": [
                tf.TensorArray(v.dtype, num_clients, element_shape=v.shape)
                for v in replica.metric_variables
            ],
            "state": [
                tf.TensorArray(a.dtype, num_clients, element_shape=a.shape[1:])
                for a in tf.nest.flatten(kept)
            ],
        }

        def one(k, first_step, sums, out):
            own_counts, client, own_kept = tf.nest.map_structure(
                lambda values: values[k], (counts, clients, kept)
            )
            result, next_step = train(
                weights, non_trainable, shared, block, k, own_counts, client, own_kept, first_step
            )
            result = structure.check_result(result, weights, sums[1], own_kept, algorithm.name)
            sums, weight, finite = fold(
                sums, non_trainable, aggregator_state, result, client.aggregator
            )
            out = {
                "weight": out["weight"].write(k, weight),
                "finite": out["finite"].write(k, finite),
                "results": out["results"].write(k, replica.metric_results()),
                "metrics": [
                    a.write(k, v.read_value())
                    for a, v in zip(out["metrics"], replica.metric_variables)
                ],
                "state": [
                    a.write(k, value)
                    for a, value in zip(out["state"], tf.nest.flatten(result.state))
                ],
            }
            return k + 1, next_step, sums, out

        unchanged = [_change(non_trainable[i], non_trainable[i]) for i in averaged]
        averages = _average.zero((), unchanged) if averaged else ()
        extras = structure.tensors(
            algorithm.extras(weights), f"what extras of {algorithm.name!r} returns"
        )
        loop = (
            tf.constant(0),
            tf.constant(0),
            (aggregator.zero(aggregator_state, weights), extras, averages),
            out,
        )
        _, _, sums, out = tf.while_loop(
            lambda k, *_: _goes_on(replica, k < num_clients), one, loop, parallel_iterations=1
        )
        return *sums, tf.nest.map_structure(lambda a: a.stack(), out)

    return train_block


def _goes_on(replica, more):
    """Whether a loop over clients goes on: not after Ctrl-C, where nobody will read what it gives."""
    return tf.logical_and(more, tf.logical_not(replica.stopping.read_value()))


def _survey_function(replica, setting):
    """The graph that sums the algorithm's survey over a block of clients."""
    algorithm, survey = setting.algorithm, setting.algorithm.survey
    names = [f"survey.{function} of {algorithm.name!r}" for function in ("init", "step")]
    run = client_function(replica, setting, survey, names)

    @tf.function
    def survey_block(weights, non_trainable, shared, block, counts, clients):
        num_clients = tf.shape(clients.id)[0]

        def one(k, first_step, total):
            own_counts, client = tf.nest.map_structure(lambda values: values[k], (counts, clients))
            result, next_step = run(
                weights, non_trainable, shared, block, k, own_counts, client, (), first_step
            )
            result = structure.check_alike(
                result,
                total,
                f"what survey.final of {algorithm.name!r} returns",
                "survey.zero gives its form.",
            )
            total = tf.cond(
                _is_finite(result),
                lambda: tf.nest.map_structure(tf.add, total, result),
                lambda: total,
            )
            return k + 1, next_step, total

        loop = (tf.constant(0), tf.constant(0), survey.zero(weights))
        return tf.while_loop(
            lambda k, *_: _goes_on(replica, k < num_clients), one, loop, parallel_iterations=1
        )[2]

    return survey_block
