"""The rounds of federated training, over any engine that maps client work.

A cohort is ordered by size and cut into blocks of clients, whose size depends on the cohort and the
model alone.
A worker trains a whole block in one call of one graph, one client after the other, and adds up
their results. Blocks are merged in order. So the sum is the same, bit for bit, for any number of
workers; and the largest clients start first, so that no core waits for them at the end.
"""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.aggregators import privacy
from fedlab.algorithms import Update, prepare
from fedlab.algorithms.algorithm import sent, with_local
from fedlab.algorithms.weighting import client_weight
from fedlab.clients import seeding
from fedlab.clients.client_stats import ClientHistory
from fedlab.engines import checks, client_work, structure
from fedlab.engines.client_blocks import ClientBlocks
from fedlab.engines.client_states import MemoryStore, StateRows, pack
from fedlab.engines.engine import Mapper, RoundResult, Setting, averaged_weights
from fedlab.learner import multiply_adds, warn_of_left_out
from fedlab.optimizers import optimizers


class State(NamedTuple):
    """The global model and the states of server and aggregator."""

    trainable: Any
    non_trainable: Any
    server: Any
    aggregator: Any


class Rounds:
    """Trains and aggregates; see `fedlab.engines.engine.Process`.

    Args:
      setting: the run's `Setting`.
      mapper: maps the training of clients. It is closed with the rounds.
    """

    def __init__(self, setting: Setting, mapper: Mapper):
        algorithm = prepare(setting.algorithm, setting.model, setting.client_learning_rate)
        self.setting = setting = setting._replace(algorithm=algorithm)
        self._averaged = averaged_weights(setting)
        privacy.check(setting.aggregator.privacy, setting.algorithm, [*self._averaged.values()])
        checks.check(setting.model, setting.batching, setting.clients.example())
        optimizers.check_model(setting.model, setting.client_learning_rate)
        self._mapper = mapper
        self._multiply_adds = multiply_adds(setting.model)
        self._blocks = ClientBlocks(setting)
        self._client_states = setting.client_states or MemoryStore()
        self._state_rows = StateRows(self._client_states)
        warn_of_left_out(mapper.merger.unmergeable)

    @property
    def metric_names(self) -> list[str]:
        """The names of the training metrics that rounds report."""
        left_out = self._mapper.merger.unmergeable
        return [*self._mapper.metrics.results(self._mapper.merger.initial, left_out)]

    def init(self, trainable: Sequence[Any], non_trainable: Sequence[Any]) -> State:
        """Returns the state before the first round."""
        algorithm, aggregator = self.setting.algorithm, self.setting.aggregator
        trainable = [tf.convert_to_tensor(w) for w in trainable]
        non_trainable = [tf.convert_to_tensor(w) for w in non_trainable]
        extras = algorithm.survey or algorithm.extras(trainable)
        privacy.check_extras(aggregator.privacy, algorithm, extras)
        who = f"the state that server_init of {algorithm.name!r} returns"
        server = structure.tensors(algorithm.server_init(trainable), who)
        sent_weights = sent(algorithm, trainable)
        return State(trainable, non_trainable, server, aggregator.init(sent_weights))

    def weights(self, state: State) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the trainable and non-trainable weights as NumPy arrays."""
        trainable, non_trainable = self.device_weights(state)
        return [np.asarray(w) for w in trainable], [np.asarray(w) for w in non_trainable]

    def device_weights(self, state: State) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the trainable and non-trainable weights as tensors."""
        return state.trainable, state.non_trainable

    def run_round(
        self, state: State, round_num: int, cohort: Sequence[str]
    ) -> tuple[State, RoundResult]:
        """Trains the cohort and updates the global model; see `Process.run_round`."""
        aggregator, algorithm = self.setting.aggregator, self.setting.algorithm
        blocks, client_weights = self._cut(cohort), self._client_weights(cohort)
        shared = self._shared(state, round_num, blocks, client_weights)
        weights = list(state.trainable), list(state.non_trainable)
        prepare = self._preparation(state, round_num, client_weights)
        work = client_work.train(self.setting, weights, shared, state.aggregator, prepare)
        with contextlib.closing(self._mapper.map(work, blocks)) as results:
            sums, clients, metrics = self._sum(round_num, blocks, results)
        if not blocks:
            sums = client_work.zero_sums(self.setting, *weights, state.aggregator)

        place = {client_id: i for i, client_id in enumerate(cohort)}
        clients.sort(key=lambda client: place[client["client_id"]])
        if clients and not any(client["num_steps"] for client in clients):
            raise checks.no_batch(self.setting.batching, round_num)
        num_finished = sum(not client["dropped"] for client in clients)
        total, extras, changes = sums
        seed = tf.constant(seeding.stateless(self.setting.seed, "aggregator", round_num))
        delta, aggregator_state, aggregated = aggregator.report(state.aggregator, total, seed)
        who = f"the update that {aggregator.name} reports"
        structure.check_weights(delta, sent(algorithm, state.trainable), who)
        update = Update(
            with_local(algorithm, delta, state.trainable),
            extras,
            shared.survey,
            tf.constant(num_finished, tf.float32),
            tf.constant(len(self.setting.clients), tf.float32),
            shared.round_num,
        )
        updated = algorithm.server_update(state.trainable, state.server, update)
        before = state.trainable, state.server
        trainable, server = structure.check_updated(updated, *before, algorithm.name)
        non_trainable = self._averaged_weights(state.non_trainable, changes)
        result = RoundResult(
            self._mapper.metrics.training_results(metrics, self._mapper.merger.unmergeable),
            clients,
            num_finished,
            {name: float(value) for name, value in aggregated.items()},
            _num_bytes((shared.broadcast, shared.survey)),
            _num_bytes((extras, shared.survey)),
            _num_bytes(state.trainable) - _num_bytes(sent(algorithm, state.trainable)),
        )
        return State(trainable, non_trainable, server, aggregator_state), result

    def run_client(
        self, state: State, round_num: int, client_id: str, cohort: Sequence[str]
    ) -> tuple[Any, list, bool, dict, Any]:
        """Trains one client.

        The round must be the first, unless the algorithm keeps nothing between rounds.

        Args:
          state: the state before the round.
          round_num: int.
          client_id: the client.
          cohort: the round's client ids, which the algorithm's survey is of.

        Returns:
          (its `ClientResult` with arrays, the changes of the averaged non-trainable weights,
          whether all of that is finite, its training metrics, its `Counts` of arrays [1]).
        """
        algorithm, client_weights = self.setting.algorithm, self._client_weights(cohort)
        blocks = self._cut(cohort)
        shared = self._shared(state, round_num, blocks, client_weights)
        kept = self._first_client_state(state)
        if round_num > 1 and (algorithm.weigh or tf.nest.flatten((shared.broadcast, kept))):
            raise ValueError(
                f"round_num={round_num}: expected 1, since {algorithm.name!r} depends on earlier "
                "rounds"
            )
        weights = list(state.trainable), list(state.non_trainable)
        prepare = self._preparation(state, round_num, client_weights)
        work = client_work.train_one(self.setting, weights, shared, prepare)
        ((outputs, counts),) = self._mapper.map(work, [[client_id]])
        result, changes, finite, metrics = tf.nest.map_structure(np.asarray, outputs)
        metrics = self._mapper.metrics.training_results(metrics)
        return result, changes, bool(finite), metrics, counts

    def save(self, state: State) -> list[np.ndarray]:
        """Returns a state's arrays for a checkpoint."""
        return [np.asarray(array) for array in tf.nest.flatten(state)]

    def restore(self, state: State, arrays: Sequence[np.ndarray]) -> State:
        """Returns the state of a checkpoint; `state` is any state of this process."""
        return tf.nest.pack_sequence_as(state, [tf.convert_to_tensor(array) for array in arrays])

    def close(self) -> None:
        """Ends the mapper's threads."""
        self._mapper.close()

    def _cut(self, cohort):
        """The cohort in blocks of client ids, the largest clients first."""
        by_size = sorted(cohort, key=self.setting.clients.num_examples, reverse=True)
        size = block_size(len(cohort), self._multiply_adds)
        return [by_size[i : i + size] for i in range(0, len(cohort), size)]

    def _client_weights(self, cohort):
        """Client id -> what the algorithm's `weigh` gives the client; nothing without `weigh`."""
        weigh = self.setting.algorithm.weigh
        if weigh is None:
            return {}
        history = self.setting.client_history or ClientHistory(self.setting.clients)
        return {client_id: client_weight(weigh, history[client_id]) for client_id in cohort}

    def _shared(self, state, round_num, blocks, client_weights):
        """What clients receive beside the weights; with a survey, its sum over the cohort."""
        algorithm = self.setting.algorithm
        who = f"what broadcast of {algorithm.name!r} returns"
        broadcast = structure.tensors(algorithm.broadcast(state.server), who)
        shared = client_work.Shared(tf.constant(round_num, tf.int64), broadcast, ())
        if not algorithm.survey:
            return shared
        weights = list(state.trainable), list(state.non_trainable)

        def prepare(block):
            return self._blocks.make(round_num, block, client_weights)

        work = client_work.survey(self.setting, weights, shared, prepare)
        sums = (outputs for outputs, _ in self._mapper.map(work, blocks))
        first = next(sums) if blocks else algorithm.survey.zero(weights[0])
        return shared._replace(survey=functools.reduce(_add, sums, first))

    def _first_client_state(self, state):
        """The state of a client that has not trained yet."""
        algorithm = self.setting.algorithm
        who = f"what client_state of {algorithm.name!r} returns"
        return structure.tensors(algorithm.client_state(state.trainable), who)

    def _preparation(self, state, round_num, client_weights):
        """A function that lays out a block of clients with their states, for training."""
        first = self._first_client_state(state)

        def prepare(block):
            data, counts = self._blocks.make(round_num, block, client_weights)
            return (*data, self._state_rows.read(first, round_num, block)), counts

        return prepare

    def _sum(self, round_num, blocks, results):
        """Adds up what `train` returns for each block.

        Returns:
          ((accumulator, extras, changes of the averaged non-trainable weights), one dict per
          client, the state of the metrics).
        """
        aggregator, merger = self.setting.aggregator, self._mapper.merger
        names = self._mapper.metrics.names
        total, extras, changes, clients, metrics = None, None, None, [], merger.initial
        for block, ((accumulator, more_extras, more_changes, outputs), counts) in zip(
            blocks, results
        ):
            total = accumulator if total is None else aggregator.merge(total, accumulator)
            extras = more_extras if extras is None else _add(extras, more_extras)
            if self._averaged:
                merge = client_work.average.merge
                changes = more_changes if changes is None else merge(changes, more_changes)
            self._keep(round_num, block, outputs)
            rows = _client_rows(block, counts, outputs, names)
            _check_client_weights(self.setting.algorithm, rows)
            clients += rows
            finite = np.asarray(outputs["finite"])
            states = [np.asarray(values)[finite] for values in outputs["metrics"]]
            metrics = merger.merge(metrics, states)
        return (total, extras, changes), clients, metrics

    def _keep(self, round_num, block, outputs):
        """Stores the states of the clients whose results are finite."""
        arrays = [np.asarray(array) for array in outputs["state"]]
        if arrays:
            finite = np.flatnonzero(outputs["finite"])
            packed = ((block[i], pack([array[i] for array in arrays])) for i in finite)
            self._client_states.write(round_num, packed)

    def _averaged_weights(self, non_trainable, changes):
        """The non-trainable weights after a round."""
        after = list(non_trainable)
        if self._averaged:
            means = client_work.average.report((), changes, None)[0]
            for i, mean in zip(self._averaged, means):
                after[i] = client_work.changed(after[i], mean)
        return after


_FEW_MULTIPLY_ADDS = 1_000_000


def block_size(num_clients: int, multiply_adds: int | None = None) -> int:
    """Clients per block: a pure function of the cohort's size and of the model.

    There are at least 16 blocks if there are clients for them, and at most 64 clients in
    each. If the model computes little, calling the graph for a block takes a large part
    of the time. Then there are at least 4 blocks, which on few cores takes up to a fifth
    less time. Cohorts of fewer than 16 clients have blocks of one client.

    Args:
      num_clients: the cohort's size.
      multiply_adds: of one example's forward pass; None if it is not known.
    """
    few = multiply_adds is not None and multiply_adds < _FEW_MULTIPLY_ADDS
    num_blocks = 4 if few and num_clients >= 16 else 16
    return min(max(1, num_clients // num_blocks), 64)


def _add(total, more):
    return tf.nest.map_structure(tf.add, total, more)


def _num_bytes(nest):
    return sum(x.dtype.size * x.shape.num_elements() for x in tf.nest.flatten(nest))


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
    for client in clients:
        if client["weight"] < 0:
            raise ValueError(
                f"client_final of {algorithm.name!r} returns weight {client['weight']:g} for "
                f"client {client['client_id']!r}: expected 0 or more"
            )
