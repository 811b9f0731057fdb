"""Central evaluation: what `model.evaluate` of Keras gives, computed on all cores."""

import collections.abc

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.data import ClientData
from fedlab.data.batching import MOST_ROWS
from fedlab.data.columns import check_columns, num_rows
from fedlab.engines import batches as batching
from fedlab.engines import inputs
from fedlab.engines.local import finalize
from fedlab.engines.replica import assign
from fedlab.engines.workers import Workers
from fedlab.models.cloning import check_compiled, clone, non_trainable_weights

_STEPS_PER_BLOCK = 8


def evaluate(model, data, batch_size=64, num_workers=None):
    """Evaluates a compiled Keras model on the examples of all clients together.

    The examples are read in the clients' order, in batches that may span clients, and loss and metrics are those of
    `model.evaluate(data.to_dataset(batch_size))` in plain Keras: a batch's loss leaves its padding out, and batches count by their rows.

    Args:
      model: a compiled Keras model; it is not changed.
      data: a `ClientData`, or columns name -> [n, ...].
      batch_size: examples a step; a model built for a fixed batch size keeps its own.
      num_workers: threads; by default the number of cores.

    Returns:
      Name -> float, "loss" first, in Keras's names.
    """
    check_compiled(model)
    check_batch_size("batch_size", batch_size)
    columns = columns_of(data)
    inputs.check(model, columns)
    workers = Workers(lambda: clone(model), columns, num_workers)
    try:
        arrays = [[w.numpy() for w in weights] for weights in (model.trainable_weights, non_trainable_weights(model))]
        return evaluate_weights(workers, *arrays, columns, batch_size)
    finally:
        workers.close()


def columns_of(data):
    """All examples of a `ClientData`, or the columns themselves, checked. Raises ValueError where there is no example."""
    if not isinstance(data, (ClientData, collections.abc.Mapping)):
        raise TypeError(f"the data is a {type(data).__name__}; allowed: a fedlab.data.ClientData, or columns name -> array [n, ...].")
    columns = data.to_arrays() if isinstance(data, ClientData) else check_columns(data)
    if not num_rows(columns):
        raise ValueError("there is no example to evaluate on: every client is empty; give others.")
    return columns


def check_batch_size(name, batch_size):
    """Raises ValueError where it is none; `name` is what the caller's argument is called."""
    if not _checks.is_int(batch_size, 1, MOST_ROWS):
        raise ValueError(f"{name} is {batch_size!r}; allowed: an int of 1 to {MOST_ROWS}, such as 64.")


def evaluate_weights(workers, trainable, non_trainable, columns, batch_size):
    """As `evaluate`, for weights (lists of arrays) put into the replicas of `workers`."""
    replica = workers.any_replica()
    size = replica.fixed_size or min(batch_size, num_rows(columns))
    batching.check(replica.model, batching.Batching(batch_size=size), columns)
    batches = batching.in_order(columns, size, fixed_size=replica.fixed_size, ignore_label=batching.ignored_label(replica.model))
    steps = len(batches.sizes)
    # A recurrent state that goes on from batch to batch needs them one after the other.
    at_once = steps if replica.has_recurrent_states else _STEPS_PER_BLOCK
    weights = [tf.convert_to_tensor(w) for w in trainable], [tf.convert_to_tensor(w) for w in non_trainable]

    def work(replica, first):
        return test_sums(replica, weights, batches, slice(first, first + at_once))

    total = None
    for values in workers.map(work, range(0, steps, at_once)):
        total = values if total is None else [t + v for t, v in zip(total, values)]
    return finalize(workers.any_replica(), total)


def evaluate_function(function, name, model, round_num):
    """What a caller's own `function(model, round_num)` gives, checked: metric -> int or float.

    Raises:
      ValueError: it gives anything but numbers by name; `name` is what the message calls it.
    """
    model.reset_states()  # recurrent states that an earlier evaluation has left
    metrics = function(model, round_num)
    if not isinstance(metrics, dict) or not all(isinstance(metric, str) for metric in metrics):
        raise ValueError(f"the function evaluate_on[{name!r}] gave {metrics!r:.80}; allowed: a dict, name of a metric -> number.")
    numbers = {}
    for metric, value in metrics.items():
        array = np.asarray(value)
        if array.ndim or array.dtype.kind not in "biuf":
            raise ValueError(f"the function evaluate_on[{name!r}] gave {metric}={value!r:.80}; allowed: a number.")
        numbers[metric] = array.item()  # a row has to become JSON
    return numbers


def test_sums(replica, weights, batches, block=slice(None)):
    """The sums of the metrics over a block of batches, as `finalize` takes them, for weights (trainable, non_trainable) as tensors."""
    columns = {name: tf.convert_to_tensor(column[block]) for name, column in batches.columns.items()}
    data = (columns, tf.constant(batches.sizes[block]), tf.constant(batches.examples[block]))
    function = replica.function("test", _test_function, weights, data)
    return [np.asarray(values) for values in function(*weights, *data)]


def _test_function(replica):
    """The graph that sums a block of batches' metrics with `replica`'s variables."""

    @tf.function
    def test_block(trainable, non_trainable, columns, sizes, examples):
        assign(replica.model.trainable_variables, trainable)
        assign(non_trainable_weights(replica.model), non_trainable)
        return test_batches(replica, columns, sizes, examples)

    return test_block


def test_batches(replica, columns, sizes, examples):
    """In a graph: the metrics' sums over some batches, at the weights that `replica`'s variables have."""
    replica.reset_recurrent_states()
    replica.reset_metrics()
    for i in tf.range(tf.shape(sizes)[0]):
        batch = {name: column[i] for name, column in columns.items()}
        if not replica.fixed_size:
            batch = {name: column[: sizes[i]] for name, column in batch.items()}
        replica.test(replica.batch(batch, examples[i]))
    return [variable.read_value() for variable in replica.metric_variables]
