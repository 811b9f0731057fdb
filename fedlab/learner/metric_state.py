"""Merges the states of a model's metrics over clients, or over parts of a data set.

A state is a list of arrays, one per variable of the metrics. A stream is a sequence of
batches that update the metrics, starting from the initial state. The states after
several streams are merged

- by the metric's own `merge_state`, if its class defines one;
- by adding up what each stream has added to the initial state, if the metric only adds.
  Keras's own `update_state` methods do. Others are recognized by their graph and by
  trials;
- otherwise not at all: such a metric needs all batches in one stream.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.clients import ClientData
from fedlab.clients.columns import num_rows
from fedlab.learner import additive
from fedlab.learner.copying import copy_metric, is_keras
from fedlab.learner.learner import Learner
from fedlab.learner.variables import variables_of

logger = logging.getLogger("fedlab")

_TRIALS = 4
_BATCH_SIZES = 16, 11  # of the two batches of a trial
_CLIENTS, _CLIENT_ROWS = 16, 8  # whose rows the trials use


class Named(NamedTuple):
    """A Keras metric, and the name of its result, which has the name of an output before it."""

    name: str
    metric: tf.keras.metrics.Metric

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables of the metric."""
        return variables_of(self.metric.variables)


class Metrics:
    """Implements `fedlab.learner.learner.Metrics`.

    Args:
      metrics: metrics with all their variables, the loss first.

    Attributes:
      variables: the variables of all metrics.
      initial: the state before any batch, one array per variable.
      names: the names of the results; see `columns_of`.

    Raises:
      ValueError: see `columns_of`.
    """

    def __init__(self, metrics: Iterable[Named]) -> None:
        self._metrics = list(metrics)
        self.variables = [variable for named in self for variable in named.variables]
        self.names = [*columns_of(self)]
        self.initial = [values for named in self for values in initial_state(named.metric)]

    def __iter__(self) -> Iterator[Named]:
        return iter(self._metrics)

    def results(
        self, state: Sequence[np.ndarray], without: Collection[str] = ()
    ) -> dict[str, float]:
        """See `fedlab.learner.learner.Metrics`."""
        for variable, value in zip(self.variables, state):
            variable.assign(value)
        return columns_of(named for named in self if named.name not in without)

    def training_results(
        self, state: Sequence[np.ndarray], without: Collection[str] = ()
    ) -> dict[str, float | None]:
        """See `fedlab.learner.learner.Metrics`."""
        results = self.results(state, without)
        # Without an example, a mean in Keras is 0, which would be the best possible
        # loss.
        return {**results} if self._metrics[0].metric.count.numpy() else dict.fromkeys(results)

    def results_in_graph(self) -> tf.Tensor:
        """See `fedlab.learner.learner.Metrics`."""
        results = [named.metric.result() for named in self]
        results = [[*r.values()] if isinstance(r, dict) else r for r in results]
        values = [tf.reshape(tf.cast(r, tf.float32), [-1]) for r in tf.nest.flatten(results)]
        return tf.ensure_shape(tf.concat(values, axis=0), [len(self.names)])


class Merger:
    """Implements `fedlab.learner.learner.Merger`.

    Args:
      learner: a `Learner`. No graph may run with it at the same time.
      data: columns or a `ClientData`, from whose first rows Keras has built the
        metrics.

    Attributes:
      initial: the state before any batch, one array per variable.
      added: names of metrics that are merged by addition.
      unmergeable: names of metrics that need all batches in one stream.

    Raises:
      ValueError: a metric has no variables, or its `merge_state` fails.
    """

    def __init__(self, learner: Learner, data: ClientData | Mapping[str, np.ndarray]) -> None:
        self.initial = learner.metrics.initial
        self._parts = _parts(learner.metrics)
        self._own, unknown = {}, []
        for name, metric in learner.metrics:
            if not metric.variables and not is_added(metric):
                raise ValueError(
                    f"metric {name!r} of class {type(metric).__name__} has no variables: "
                    "expected a metric that stores its counts in variables; create them with "
                    "add_weight"
                )
            merges = _definer(metric, "merge_state")  # Keras 3's own metrics have none
            if merges is not None and not is_keras(merges):
                self._own[name] = _OwnMerge(metric, self.initial[self._parts[name]])
            if not is_added(metric):
                unknown.append(name)
        adding = _adding(learner, unknown, self._parts, _some_rows(data)) if unknown else set()
        self.added = [name for name in self._parts if name not in unknown or name in adding]
        self.unmergeable = [
            name for name in unknown if name not in adding and name not in self._own
        ]

    def merge(
        self, total: Sequence[np.ndarray] | None, states: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """See `fedlab.learner.learner.Merger`."""
        total = self.initial if total is None else total
        merged: list[np.ndarray] = []
        for name, part in self._parts.items():
            if name in self._own:
                merged += self._own[name].merge(total[part], states[part])
            elif name in self.unmergeable:
                merged += [
                    values[-1] if len(values) else before
                    for before, values in zip(total[part], states[part])
                ]
            else:
                merged += map(_plus_increments, total[part], self.initial[part], states[part])
        return merged


class _OwnMerge:
    """Merges by a metric's own `merge_state`, called on copies of the metric."""

    def __init__(self, metric, initial):
        self._into, self._other = copy_metric(metric), copy_metric(metric)
        name = f"metric {metric.name!r} of class {type(metric).__name__}"
        if [v.shape for v in self._into.variables] != [v.shape for v in metric.variables]:
            raise ValueError(
                f"{name} has merge_state, but creates variables later: create all of them in its "
                "constructor"
            )
        try:
            self.merge(initial, [values[None] for values in initial])
        except Exception as error:  # custom metrics may raise anything
            raise ValueError(
                f"{name} cannot be merged by its merge_state ({error!s:.200}): correct merge_state"
            ) from error

    def merge(self, total, states):
        _assign(self._into, total)
        for state in zip(*states):
            _assign(self._other, state)
            self._into.merge_state([self._other])
        return [variable.numpy() for variable in self._into.variables]


def columns_of(metrics: Iterable[Named]) -> dict[str, float]:
    """Returns the results of Keras metrics as name -> float.

    The values of a vector are named name_i, those of a matrix name_i_j. The values of a
    dict are named like its keys, as in `model.evaluate(..., return_dict=True)`.

    Raises:
      ValueError: a result does not consist of numbers, or two results have the same
        name.
    """
    columns: dict[str, float] = {}
    names = set()
    for own_name, metric in metrics:
        result = metric.result()
        found = {}
        for name, value in result.items() if isinstance(result, dict) else [(own_name, result)]:
            array = np.asarray(value)
            try:
                numbers = array.astype(np.float64)
            except (TypeError, ValueError):
                numbers = None
            if numbers is None or array.dtype.kind in "cSU" or not isinstance(name, str):
                raise ValueError(
                    f"metric {own_name!r} returns {array.tolist()!r:.80} as {name!r}: expected "
                    "a number, an array, or a dict of them by name"
                )
            for index in np.ndindex(array.shape):
                found["_".join([name, *map(str, index)])] = float(numbers[index])
        if twice := [name for name in found if name in columns] or names & {own_name}:
            raise ValueError(
                f"two metrics of the model have results named {[*twice][0]!r}: expected different "
                "names; set name="
            )
        columns |= found
        names.add(own_name)
    return columns


def warn_of_left_out(names: Collection[str], in_tff: bool = False) -> None:
    """Logs a warning that training metrics are missing because they cannot be merged.

    Args:
      names: the names of the metrics.
      in_tff: whether the engine is TFF, which can only add.
    """
    if names:
        logger.warning(
            "rounds do not report the training metric%s %s: the states of clients are not known "
            "to add up%s. Evaluation reports all metrics. For training, define "
            "merge_state(self, metrics)%s, or use a function in evaluate_on.",
            "s" * (len(names) > 1),
            ", ".join(map(repr, names)),
            ", and TFF can only add them" * in_tff,
            " and use engine 'local'" * in_tff,
        )


def is_added(metric: tf.keras.metrics.Metric) -> bool:
    """Returns whether `update_state` is Keras's own, which only adds to the variables."""
    return is_keras(_definer(metric, "update_state"))


def initial_state(metric: tf.keras.metrics.Metric) -> list[np.ndarray]:
    """Returns the state of a metric before any batch, one array per variable.

    This is the state that the metric's own `reset_state` sets. Keras's default
    `reset_state` sets every variable to zero, including constants that a custom class
    stores in variables. For such a class, this is the state after the constructor.
    """
    if _definer(metric, "reset_state") is not tf.keras.metrics.Metric:
        metric.reset_state()
        return [variable.numpy() for variable in metric.variables]
    if not is_keras(type(metric)):
        try:
            values = [variable.numpy() for variable in copy_metric(metric).variables]
        except ValueError:  # a metric that belongs to a custom model cannot be copied
            values = []
        if [value.shape for value in values] == [variable.shape for variable in metric.variables]:
            return values
    return [np.zeros_like(variable.numpy()) for variable in metric.variables]


def _plus_increments(total, initial, values):
    return total + (values - initial).sum(axis=0, dtype=total.dtype)


def _parts(metrics):
    """Metric name -> the slice of its variables in a state."""
    parts, first = {}, 0
    for name, metric in metrics:
        parts[name] = slice(first, first + len(metric.variables))
        first += len(metric.variables)
    return parts


def _assign(metric, values):
    for variable, value in zip(metric.variables, values):
        variable.assign(value)


def _definer(metric, method):
    """The class that defines a method of a metric, or None."""
    return next((cls for cls in type(metric).__mro__ if method in vars(cls)), None)


def _some_rows(data):
    """Some rows of several clients, or of columns, name -> [n, ...]."""
    if not isinstance(data, ClientData):
        rows = (
            np.linspace(0, num_rows(data) - 1, _CLIENTS * _CLIENT_ROWS).astype(int)
            if num_rows(data)
            else []
        )
        return {name: column[np.unique(rows)] for name, column in data.items()}
    ids = data.client_ids[:: max(1, len(data) // _CLIENTS)][:_CLIENTS]
    parts = [data.example(), *map(data.in_schema, ids)]
    alike = [
        part
        for part in parts
        if all(part[name].shape[1:] == column.shape[1:] for name, column in parts[0].items())
    ]
    return {
        name: np.concatenate([part[name][:_CLIENT_ROWS] for part in alike]) for name in parts[0]
    }


def _adding(learner, names, parts, rows):
    """Finds out which metrics only add to their variables.

    Their graph must only add. In addition, in trials with several weights, two batches
    in one stream must add what the two add separately. Trials alone are not enough: a
    count may stop at a limit that is only reached after more batches.

    Args:
      learner: the learner of the model.
      names: names of metrics.
      parts: metric name -> the slice of its variables in a state.
      rows: examples, name -> [n, ...].

    Returns:
      A set of names.
    """
    names = (
        [name for name in names if name in _only_added(learner, parts, rows)]
        if num_rows(rows)
        else []
    )
    if not names:
        return set()
    refuted, confirmed = set(), set()
    weights = variables_of(learner.model.trainable_variables)
    with tf.device(weights[0].device):
        before = [weight.numpy() for weight in weights]
        for trial in range(_TRIALS):
            rng = np.random.default_rng(trial)
            if trial:
                _set_noise(weights, before, rng)
            first, second = (_batch(learner, rows, rng, size) for size in _BATCH_SIZES)
            states = [
                _state(learner, batches) for batches in ([], [first], [second], [first, second])
            ]
            for name in names:
                found = [
                    _adds_up(*values) for values in zip(*(state[parts[name]] for state in states))
                ]
                refuted |= {name} if False in found else set()
                confirmed |= {name} if True in found else set()
        for weight, value in zip(weights, before):
            weight.assign(value)
    return confirmed - refuted


def _only_added(learner, parts, rows):
    """Names of metrics whose variables are only added to by the graph of a batch."""
    dtypes = {name: tf.convert_to_tensor(column[:0]).dtype for name, column in rows.items()}
    specs = {
        name: tf.TensorSpec([learner.fixed_size, *rows[name].shape[1:]], dtype)
        for name, dtype in dtypes.items()
    }

    @tf.function
    def update(columns):
        learner.test(learner.batch(columns, 1.0))

    changed, added = additive.written(
        update.get_concrete_function(specs), learner.metrics.variables
    )
    return {
        name for name, part in parts.items() if changed & {*range(part.start, part.stop)} <= added
    }


def _set_noise(weights, before, rng):
    for weight, value in zip(weights, before):
        weight.assign(value + rng.normal(size=value.shape).astype(value.dtype))


def _batch(learner, rows, rng, size):
    chosen = rng.integers(num_rows(rows), size=learner.fixed_size or size)
    columns = {name: tf.convert_to_tensor(column[chosen]) for name, column in rows.items()}
    return learner.batch(columns, float(len(chosen)))


def _state(learner, batches):
    learner.set_metric_state(learner.metrics.initial)
    for batch in batches:
        learner.reset_recurrent_states()
        learner.test(batch)
    return [variable.numpy() for variable in learner.metrics.variables]


def _adds_up(initial, first, second, both):
    """Whether the increments of a variable add up; None if the batches do not show it."""
    if initial.dtype.kind not in "iuf" or not np.isfinite(initial).all():
        return False
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return None
    rounding = 0 if initial.dtype.kind in "iu" else max(1e-5, 64 * np.finfo(initial.dtype).eps)
    initial, first, second, both = (
        values.astype(np.float64) for values in (initial, first, second, both)
    )
    size = np.abs(initial) + np.abs(first) + np.abs(second)
    if not (np.abs(both - (first + second - initial)) <= rounding * size).all():
        return False
    return True if ((first != initial) & (second != initial)).any() else None
