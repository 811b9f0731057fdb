"""Merges the states of a model's metrics: over clients, and over the parts of an evaluation set.

A state is a list of arrays, one for each variable of the metrics. What a metric counts from several
streams of batches may be merged

- by its own `merge_state`, where its class defines one;
- by adding up what each stream has added to the initial state, where that is what one stream would
  give. Keras's own `update_state` methods add; whether another does is read off its graph and tried on
  examples;
- not at all otherwise: such a metric needs all batches in one stream.
"""

import logging

import numpy as np
import tensorflow as tf

from fedlab.clients import ClientData
from fedlab.clients.columns import num_rows
from fedlab.learner.keras2 import additive
from fedlab.learner.keras2.copying import copy_metric, is_keras

logger = logging.getLogger("fedlab")

_TRIALS, _ROWS = 4, (16, 11)
_CLIENTS, _CLIENT_ROWS = 16, 8


class Metrics:
    """The metrics of one model, the loss first.

    Args:
      metrics: Keras metrics with all their variables.

    Attributes:
      variables: their variables, one list.
      initial: the state before any batch, an array for each variable.
      names: the names of their results; see `columns_of`.

    Raises:
      ValueError: as `columns_of`.
    """

    def __init__(self, metrics):
        self._metrics = list(metrics)
        self.variables = [variable for metric in self for variable in metric.variables]
        self.names = [*columns_of(self)]
        self.initial = [values for metric in self for values in initial_state(metric)]

    def __iter__(self):
        return iter(self._metrics)

    def results(self, state, without=()):
        """The results in a state, as name -> float; see `columns_of`.

        It overwrites the variables: no graph may be at work with them.

        Args:
          state: an array for each variable.
          without: names of metrics that are left out.
        """
        for variable, value in zip(self.variables, state):
            variable.assign(value)
        return columns_of(metric for metric in self if metric.name not in without)

    def training_results(self, state, without=()):
        """As `results`; None for all metrics if no example was trained on.

        Without an example a mean is 0 in Keras, which would be the best possible loss.
        """
        results = self.results(state, without)
        return results if self._metrics[0].count.numpy() else dict.fromkeys(results)

    def results_in_graph(self):
        """In a graph: the current results, float32 [values], in the order of `names`."""
        results = [metric.result() for metric in self]
        results = [[*r.values()] if isinstance(r, dict) else r for r in results]
        values = [tf.reshape(tf.cast(r, tf.float32), [-1]) for r in tf.nest.flatten(results)]
        return tf.ensure_shape(tf.concat(values, axis=0), [len(self.names)])


class Merger:
    """Merges states of the metrics of one model.

    Args:
      learner: a `Learner` that no graph is at work with.
      data: columns or a `ClientData`, whose first rows Keras has built the metrics from.

    Attributes:
      initial: the state before any batch.
      added: names of the metrics whose streams add up.
      unmergeable: names of the metrics that need one stream.

    Raises:
      ValueError: a metric has no variable, or its `merge_state` does not work.
    """

    def __init__(self, learner, data):
        self.initial = learner.metrics.initial
        self._parts = _parts(learner.metrics)
        self._own, unknown = {}, []
        for metric in learner.metrics:
            if not metric.variables and not is_added(metric):
                raise ValueError(
                    f"metric {metric.name!r} of class {type(metric).__name__} has no variables; "
                    "allowed: metrics that keep what they count in variables, made with add_weight."
                )
            if not is_keras(_definer(metric, "merge_state")):
                self._own[metric.name] = _OwnMerge(metric, self.initial[self._parts[metric.name]])
            if not is_added(metric):
                unknown.append(metric.name)
        adding = _adding(learner, unknown, self._parts, _some_rows(data)) if unknown else set()
        self.added = [name for name in self._parts if name not in unknown or name in adding]
        self.unmergeable = [
            name for name in unknown if name not in adding and name not in self._own
        ]

    def merge(self, total, states):
        """Merges the states of several streams into one; of metrics that need one stream, the last.

        Args:
          total: what was merged so far, or None.
          states: a list of arrays [streams, ...], each stream from the initial state.
        """
        total = self.initial if total is None else total
        merged = []
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
    """Merges by a metric's own `merge_state`, on copies of it."""

    def __init__(self, metric, initial):
        self._into, self._other = copy_metric(metric), copy_metric(metric)
        name = f"metric {metric.name!r} of class {type(metric).__name__}"
        if [v.shape for v in self._into.variables] != [v.shape for v in metric.variables]:
            raise ValueError(
                f"{name} has merge_state, but not all variables from the start: make them in its constructor."
            )
        try:
            self.merge(initial, [values[None] for values in initial])
        except Exception as error:  # whatever the code of a stranger's class raises
            raise ValueError(
                f"{name} cannot be merged by its merge_state: {error!s:.200}"
            ) from error

    def merge(self, total, states):
        _assign(self._into, total)
        for state in zip(*states):
            _assign(self._other, state)
            self._into.merge_state([self._other])
        return [variable.numpy() for variable in self._into.variables]


def columns_of(metrics):
    """The results of Keras metrics as name -> float.

    The values of a vector are called name_i, those of a matrix name_i_j; a dict's are called as its
    keys are, as in `model.evaluate(..., return_dict=True)`.

    Raises:
      ValueError: a result is not made of numbers, or two have the same name.
    """
    columns, names = {}, set()
    for metric in metrics:
        result = metric.result()
        found = {}
        for name, value in result.items() if isinstance(result, dict) else [(metric.name, result)]:
            array = np.asarray(value)
            try:
                numbers = array.astype(np.float64)
            except (TypeError, ValueError):
                numbers = None
            if numbers is None or array.dtype.kind in "cSU" or not isinstance(name, str):
                given = f"metric {metric.name!r} gives {array.tolist()!r:.80} as {name!r}"
                raise ValueError(
                    f"{given}; allowed: a number, an array, or a dict of them by name."
                )
            for index in np.ndindex(array.shape):
                found["_".join([name, *map(str, index)])] = float(numbers[index])
        if twice := [name for name in found if name in columns] or names & {metric.name}:
            raise ValueError(
                f"two metrics of the model have values called {[*twice][0]!r}; allowed: a name for each, see name=."
            )
        columns |= found
        names.add(metric.name)
    return columns


def warn_of_left_out(names, in_tff=False):
    """Warns that rounds are without the training metrics of these names."""
    if names:
        reason = (
            "TFF can only add clients' states, and theirs are" if in_tff else "clients' states are"
        )
        logger.warning(
            "rounds are without the training metric%s %s: %s. Evaluation has %s; "
            "define merge_state(self, metrics)%s, or measure with a function in evaluate_on.",
            "s" * (len(names) > 1),
            ", ".join(map(repr, names)),
            f"{reason} not known to add up",
            "them" if len(names) > 1 else "it",
            " and use engine 'local'" * in_tff,
        )


def is_added(metric):
    """Whether a metric's `update_state` is Keras's own, which only adds to its variables."""
    return is_keras(_definer(metric, "update_state"))


def initial_state(metric):
    """A metric's values before any batch, one array for each of its variables.

    They are what `reset_state` sets. Keras's default sets all to zero, also the constants that a class
    may keep in variables: what the constructor leaves counts then, as in Keras until the first reset.
    """
    if _definer(metric, "reset_state") is not tf.keras.metrics.Metric:
        metric.reset_state()
        return [variable.numpy() for variable in metric.variables]
    if not is_keras(type(metric)):
        try:
            values = [variable.numpy() for variable in copy_metric(metric).variables]
        except ValueError:  # of a model's own, which is not copied
            values = []
        if [value.shape for value in values] == [variable.shape for variable in metric.variables]:
            return values
    return [np.zeros_like(variable.numpy()) for variable in metric.variables]


def _plus_increments(total, initial, values):
    return total + (values - initial).sum(axis=0, dtype=total.dtype)


def _parts(metrics):
    """Metric name -> slice of its variables in a state."""
    parts, first = {}, 0
    for metric in metrics:
        parts[metric.name] = slice(first, first + len(metric.variables))
        first += len(metric.variables)
    return parts


def _assign(metric, values):
    for variable, value in zip(metric.variables, values):
        variable.assign(value)


def _definer(metric, method):
    """The class that defines a metric's method."""
    return next(cls for cls in type(metric).__mro__ if method in vars(cls))


def _some_rows(data):
    """Rows of several clients, or of all columns, name -> [n, ...]."""
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
    """Which of some metrics add what they count to their variables, by trials at several weights.

    In each trial, two batches in one stream must add what the two add on their own. Trials cannot see what
    happens after more batches, such as a count that stops at a limit: the graph must not do anything but add.
    """
    names = (
        [name for name in names if name in _only_added(learner, parts, rows)]
        if num_rows(rows)
        else []
    )
    if not names:
        return set()
    refuted, confirmed = set(), set()
    with tf.device(learner.model.trainable_variables[0].device):
        weights = learner.model.trainable_variables
        before = [weight.numpy() for weight in weights]
        for trial in range(_TRIALS):
            rng = np.random.default_rng(trial)
            if trial:
                _set_noise(weights, before, rng)
            first, second = (_batch(learner, rows, rng, size) for size in _ROWS)
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
    """Names of the metrics to whose variables the graph of a batch only adds."""
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
    """Whether a variable's increments add up; None where the batches do not show it."""
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
