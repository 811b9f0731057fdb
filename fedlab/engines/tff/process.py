"""Runs rounds of TFF's learning processes."""

import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedlab import aggregators
from fedlab.algorithms import fed_avg
from fedlab.engines import batches, checks
from fedlab.engines.engine import RoundResult
from fedlab.engines.setting import Setting
from fedlab.engines.tff import aggregators as _tff_aggregators
from fedlab.engines.tff import algorithms as _tff_algorithms
from fedlab.engines.tff import model as _tff_model
from fedlab.engines.tff import worker as _tff_worker
from fedlab.engines.workers import Workers
from fedlab.learner import metric_state
from fedlab.learner.keras2.blueprint import Blueprint, keeping_eager_classes

logger = logging.getLogger("fedlab")

_GROWTH_BYTES = 256 * 2**20


class TffProcess:
    """TFF's learning process for a setting; see `fedlab.engines.engine.Process`.

    Raises:
      ValueError, RuntimeError: as `fedlab.engines.tff.start`.
    """

    def __init__(self, setting: Setting):
        self.setting = setting
        first = setting.clients.example()
        checks.check(setting.model, setting.batching, first)
        self._spec = _batch_spec(setting, _class_weighted(setting, first))
        self._blueprint = Blueprint(setting.model, self._spec)
        self._workers = Workers(setting.build, setting.clients, setting.num_workers)
        self._trained, self._summed = self._training_metrics()
        self._first_size = None

        self._process = self._build(setting)
        self._worker = _tff_worker.Worker(len(os.sched_getaffinity(0)))
        self._context = _tff_worker.context(self._worker)
        try:
            plain = (
                setting.algorithm.name == "fed_avg"
                and setting.client_learning_rate is None
                and not setting.aggregator.privacy
            )
            averaging = setting._replace(
                algorithm=fed_avg(), client_learning_rate=None, aggregator=aggregators.mean()
            )
            self._check_weights_kept(self._process if plain else self._build(averaging))
        except BaseException:
            self.close()
            raise

    @property
    def metric_names(self) -> list[str]:
        """Names of the training metrics, "loss" first."""
        return self._trained.names

    @property
    def metrics(self) -> Any:
        """The model's metrics."""
        return self._workers.metrics

    @property
    def merger(self) -> Any:
        """Merges metric states of several clients."""
        return self._workers.merger

    def map(self, work: Any, items: Iterable) -> Any:
        """Maps work other than training in threads of this process, like the local engine."""
        return self._workers.map(work, items)

    def _build(self, setting):
        def model_fn(count_tokens):
            return lambda: _tff_model.KerasVariableModel(
                self._blueprint, count_tokens, self._summed
            )

        with keeping_eager_classes():
            return _tff_algorithms.build(setting, model_fn)

    @property
    def worker_pid(self) -> int | None:
        """The process id of TFF's worker, or None if no worker is running."""
        return self._worker.pid

    def init(self, trainable: Sequence, non_trainable: Sequence) -> Any:
        """Returns the state before the first round, with these weights."""
        return self._init(self._process, trainable, non_trainable)

    def weights(self, state: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns a state's trainable and non-trainable weights."""
        weights = state.global_model_weights
        return [np.asarray(w) for w in weights.trainable], [
            np.asarray(w) for w in weights.non_trainable
        ]

    device_weights = weights

    def run_round(
        self, state: Any, round_num: int, cohort: Sequence[str]
    ) -> tuple[Any, RoundResult]:
        """Runs one round and returns the next state and the result."""
        parts = [batches.client_batches(self.setting, round_num, client_id) for client_id in cohort]
        if parts and not any(len(part.sizes) for part in parts):
            raise checks.no_batch(self.setting.batching, round_num)
        state, metrics, num_finished, measured = self._next(
            self._process, state, [self._dataset(*pair) for pair in zip(cohort, parts)]
        )
        rows = [
            self._client_row(client_id, part, num_finished, len(cohort))
            for client_id, part in zip(cohort, parts)
        ]
        aggregated = _tff_aggregators.metrics(
            self.setting.aggregator, measured, len(cohort), round_num
        )
        self._restart_if_grown()
        return state, RoundResult(metrics, rows, num_finished, aggregated)

    def save(self, state: Any) -> list[np.ndarray]:
        """Returns a state as a list of arrays."""
        return [np.asarray(array) for array in tf.nest.flatten(state)]

    def restore(self, state: Any, arrays: Iterable[np.ndarray]) -> Any:
        """Returns the state with the structure of `state` and the arrays from `save`."""
        return tf.nest.pack_sequence_as(state, list(arrays))

    def restart_worker(self) -> None:
        """Ends TFF's worker, which frees its memory. The next round starts another one.

        This is possible between rounds, because the state is in this process.
        """
        self._worker.stop()

    def close(self) -> None:
        """Ends TFF's worker and the threads."""
        self._worker.stop()
        self._workers.close()

    def _restart_if_grown(self):
        """Restarts a worker that has more than doubled since its first round, to bound memory."""
        size = self._worker.resident_bytes()
        if self._first_size is None or self._first_size[0] != self.worker_pid:
            self._first_size = self.worker_pid, size
        elif size > self._first_size[1] + max(_GROWTH_BYTES, self._first_size[1]):
            logger.info(
                "TFF's worker has grown from %.0f to %.0f MB and is restarted",
                self._first_size[1] / 1e6,
                size / 1e6,
            )
            self.restart_worker()

    def _call(self, computation, *arguments):
        try:
            self._worker.ensure()
            with tff.framework.get_context_stack().install(self._context):
                return computation(*arguments)
        except BaseException:  # Ctrl-C too
            self._worker.stop()
            raise

    def _init(self, process, trainable, non_trainable):
        weights = tff.learning.models.ModelWeights(
            [np.asarray(w) for w in trainable], [np.asarray(w) for w in non_trainable]
        )
        return self._call(process.set_model_weights, self._call(process.initialize), weights)

    def _next(self, process, state, datasets):
        output = self._call(process.next, state, datasets)
        sums = dict(output.metrics["client_work"]["train"])
        num_finished = int(sums.pop("finished")[0])
        state = [
            before + more
            for name, values in sums.items()
            for before, more in zip(self._summed[name], values)
        ]
        metrics = self._trained.training_results(state)
        return output.state, metrics, num_finished, output.metrics["aggregator"]

    def _training_metrics(self):
        """Returns the `Metrics` whose states can be added up, and name -> their initial state."""
        loss = tf.keras.metrics.Mean(name="loss")
        metrics = [loss, *self._blueprint.metrics(self.setting.model).metrics]
        if not all(map(metric_state.is_added, metrics)):
            names = self.merger.added
            left_out = [metric.name for metric in metrics if metric.name not in names]
            metric_state.warn_of_left_out(left_out, in_tff=True)
            metrics = [metric for metric in metrics if metric.name in names]
        initial = {metric.name: metric_state.initial_state(metric) for metric in metrics}
        named = (metric_state.Named(metric.name, metric) for metric in metrics)
        return metric_state.Metrics(named), initial

    def _check_weights_kept(self, averaging):
        """Checks that one batch of one client at learning rate 0 leaves the weights unchanged.

        See `fedlab.learner.keras2.blueprint` for why it might not.

        Args:
          averaging: the learning process of federated averaging, for any algorithm of the run.
        """
        part, client_id = self._first_batch()
        rng = np.random.default_rng(0)
        given = [
            rng.uniform(0.01, 0.05, v.shape).astype(v.dtype.as_numpy_dtype)
            for v in self.setting.model.trainable_variables
        ]
        state = self._init(
            averaging, given, [v.numpy() for v in self.setting.model.non_trainable_variables]
        )
        # The learning rate is part of the state, so this runs the same computation as a round.
        state.client_work["learning_rate"] = np.zeros_like(state.client_work["learning_rate"])
        state, *_ = self._next(averaging, state, [self._dataset(client_id, part)])
        names = zip(self._blueprint.weight_names[0], given, self.weights(state)[0])
        lost = [name for name, before, after in names if not np.array_equal(before, after)]
        if lost:
            raise RuntimeError(
                f"TFF loses the weights {', '.join(lost)}: a round at client learning rate 0 "
                "changed them"
            )

    def _first_batch(self):
        for client_id in self.setting.clients.client_ids:
            part = batches.client_batches(self.setting, 0, client_id)
            if len(part.sizes):
                return batches.first_batches(part, 1), client_id
        raise ValueError(
            f"batch_size={self.setting.batching.batch_size}: expected a client with at least one "
            "batch; use a smaller batch_size, or drop_remainder=False"
        )

    def _dataset(self, client_id, part):
        """Returns a client's batches as a `tf.data.Dataset`.

        Batches of different sizes are separate datasets, so that no function is traced.
        """
        columns = dict(part.columns)
        for name, spec in self._spec.items():
            shape = columns[name].shape[2:]
            if not spec.shape[1:].is_compatible_with(shape):
                raise ValueError(
                    f"client {client_id!r} has column {name!r} with rows of shape {list(shape)}: "
                    f"expected {spec.shape[1:]}, as the first client has"
                )
        columns = OrderedDict((name, columns[name]) for name in self._spec)
        dataset, start = None, 0
        for size, run in itertools.groupby(part.sizes):
            stop = start + len(list(run))
            piece = tf.data.Dataset.from_tensor_slices(
                OrderedDict((name, c[start:stop, :size]) for name, c in columns.items())
            )
            dataset, start = piece if dataset is None else dataset.concatenate(piece), stop
        return tf.data.Dataset.from_tensor_slices(columns) if dataset is None else dataset

    def _client_row(self, client_id, part, num_finished, num_clients):
        counts = {"num_examples": int(part.examples.sum()), "num_tokens": int(part.tokens.sum())}
        dropped = {0: True, num_clients: False}.get(num_finished)
        weight = counts.get(self.setting.algorithm.settings["client_weighting"], 1)
        return {
            "client_id": client_id,
            **counts,
            "num_steps": len(part.sizes),
            "weight": {True: 0.0, False: float(weight)}.get(dropped),
            "loss": None,
            "dropped": dropped,
            "metrics": {},
        }


def _class_weighted(setting, columns):
    """Returns a client's columns with the sample weights that its batches have.

    Raises:
      ValueError: TFF, which only sees sample weights, would count the wrong number of
        examples or tokens with these class weights.
    """
    if setting.class_weight is None:
        return columns
    zero = [label for label, weight in setting.class_weight.items() if not weight]
    if zero:
        raise ValueError(
            f"class_weight[{zero[0]}]=0: expected a number above 0 with engine='tff'; use "
            "engine='local'"
        )
    if (
        "sample_weight" not in columns
        and setting.algorithm.settings.get("client_weighting") == "num_tokens"
    ):
        raise ValueError(
            "client_weighting='num_tokens' with class_weight and no column 'sample_weight': "
            "expected 'num_examples' or 'uniform' with engine='tff'; use engine='local'"
        )
    return batches.class_weighted(setting, columns, "the first client")


def _batch_spec(setting, columns):
    """Returns column name -> tf.TensorSpec of a batch.

    A dimension is free if the model's input has a free dimension there, or if the rows of
    clients differ in it.
    """
    fixed_size = batches.fixed_batch_size(setting.model)
    free = [
        i
        for tensor in setting.model.inputs or ()
        for i, size in enumerate(tensor.shape)
        if i and size is None
    ]
    spec, specs = OrderedDict(), batches.column_specs(setting)
    for name in columns:
        row = [None if i in free else size for i, size in enumerate(specs[name].shape[1:], 1)]
        spec[name] = tf.TensorSpec([fixed_size, *row], specs[name].dtype, name=name)
    if fixed_size and not setting.batching.drop_remainder and "sample_weight" not in spec:
        # Weights of 0 for rows that fill up a batch.
        spec["sample_weight"] = tf.TensorSpec([fixed_size], tf.float32, name="sample_weight")
    return spec
