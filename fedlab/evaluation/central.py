"""Central evaluation: what `model.evaluate` of Keras gives, computed on all cores."""

import collections.abc
import functools

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.clients import ClientData
from fedlab.clients.batching import MOST_ROWS
from fedlab.clients.columns import check_columns, num_rows
from fedlab.engines import batches as batching
from fedlab.engines import blocks
from fedlab.engines.workers import Workers
from fedlab.learner.keras2 import inputs
from fedlab.learner.keras2.cloning import (
    check_compiled,
    clone,
    non_trainable_weights,
    weight_arrays,
)
from fedlab.learner.keras2.metric_state import finalize
from fedlab.learner.keras2.replica import assign

_STEPS_PER_BLOCK = 8


def evaluate(model, data, batch_size=64, num_workers=None):
    """Evaluates a compiled Keras model on the examples of all clients together.

    The examples are read in the clients' order, in batches that may span clients, and loss and metrics are those of
    `model.evaluate(data.to_dataset(batch_size))` in plain Keras: a batch's loss leaves its padding out, and batches count by their rows.
    Where clients have rows of different shapes, such as sequences of other lengths, a batch holds rows of one shape.

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
    groups = columns_of(data)
    for columns in groups:
        inputs.check(model, columns)
    workers = Workers(lambda: clone(model), groups[0], num_workers)
    try:
        return evaluate_weights(workers, *weight_arrays(model), groups, batch_size)
    finally:
        workers.close()


def columns_of(data):
    """All examples of a `ClientData`, or the columns themselves, checked: a list of columns, one for each shape of rows.

    Raises:
      ValueError: there is no example.
    """
    if not isinstance(data, (ClientData, collections.abc.Mapping)):
        raise TypeError(
            f"the data is a {type(data).__name__}; allowed: a fedlab.clients.ClientData, or columns name -> array [n, ...]."
        )
    groups = _of_one_shape(data) if isinstance(data, ClientData) else [check_columns(data)]
    if not any(map(num_rows, groups)):
        raise ValueError("there is no example to evaluate on: every client is empty; give others.")
    return groups


def _of_one_shape(clients):
    """The columns of all clients, concatenated where their rows have the same shape."""
    if not blocks.open_rows(clients.schema):
        return [clients.to_arrays()]
    alike = {}
    for client_id in filter(clients.num_examples, clients):
        shapes = tuple(column.shape[1:] for column in clients.in_schema(client_id).values())
        alike.setdefault(shapes, []).append(client_id)
    return [clients.to_arrays(client_ids) for client_ids in alike.values()]


def check_batch_size(name, batch_size):
    """Raises ValueError where it is none; `name` is what the caller's argument is called."""
    _checks.check_int(name, batch_size, 1, MOST_ROWS, "such as 64")


def evaluate_weights(workers, trainable, non_trainable, groups, batch_size):
    """As `evaluate`, for weights (lists of arrays) put into the replicas of `workers`, and the columns that `columns_of` gives."""
    replica = workers.any_replica()
    weights = (
        [tf.convert_to_tensor(w) for w in trainable],
        [tf.convert_to_tensor(w) for w in non_trainable],
    )
    size = replica.fixed_size or batch_size
    pieces = []
    for columns in groups:
        batching.check(replica.model, batching.Batching(batch_size=size), columns)
        # A recurrent state that goes on from batch to batch needs them one after the other.
        at_once = num_rows(columns) if replica.has_recurrent_states else _STEPS_PER_BLOCK * size
        pieces += [
            (columns, slice(first, first + at_once))
            for first in range(0, num_rows(columns), at_once)
        ]
    fill = batching.fill_for(replica.model, batching.Batching(size))
    open_rows = _differing(groups)

    def work(replica, piece, state):
        columns, rows = piece
        part = batching.in_order(
            {name: column[rows] for name, column in columns.items()}, size, fill
        )
        return test_state(replica, weights, part, open_rows, state)

    return merged(workers, work, pieces)


def merged(workers, work, items):
    """What metrics give for several parts together, name -> float.

    Args:
      workers: `Workers`.
      work: replica, item, metric state -> the metric state after the item's batches.
      items: the parts. Those with a metric that needs all batches in one stream are worked on one
        after the other, the others at the same time.
    """
    merger = workers.merger
    total = merger.initial
    if merger.unmergeable:
        for item in items:
            (total,) = workers.map(functools.partial(_from_state, work, total), [item])
    else:
        for state in workers.map(functools.partial(_from_state, work, merger.initial), items):
            total = merger.merge(total, [values[None] for values in state])
    return finalize(workers.any_replica(), total)


def _from_state(work, state, replica, item):
    return work(replica, item, state)


def _differing(groups):
    """name -> shape of a row with None where groups of columns differ, of those that do."""
    shapes = {name: {columns[name].shape[1:] for columns in groups} for name in groups[0]}
    return {
        name: tuple(
            size if all(shape[i] == size for shape in each) else None
            for i, size in enumerate(next(iter(each)))
        )
        for name, each in shapes.items()
        if len(each) > 1
    }


def evaluate_function(function, name, model, round_num):
    """What a caller's own `function(model, round_num)` gives, checked: metric -> int or float.

    Raises:
      ValueError: it gives anything but numbers by name; `name` is what the message calls it.
    """
    model.reset_states()  # recurrent states that an earlier evaluation has left
    metrics = function(model, round_num)
    if not isinstance(metrics, dict) or not all(isinstance(metric, str) for metric in metrics):
        raise ValueError(
            f"the function evaluate_on[{name!r}] gave {metrics!r:.80}; allowed: a dict, name of a metric -> number."
        )
    numbers = {}
    for metric, value in metrics.items():
        array = np.asarray(value)
        if array.ndim or array.dtype.kind not in "biuf":
            raise ValueError(
                f"the function evaluate_on[{name!r}] gave {metric}={value!r:.80}; allowed: a number."
            )
        numbers[metric] = array.item()  # a row has to become JSON
    return numbers


def test_state(replica, weights, batches, open_rows, state):
    """The metrics' state after a client's `Batches`.

    Args:
      replica: a `Replica`.
      weights: (trainable, non_trainable) as tensors.
      batches: the `Batches`.
      open_rows: see `fedlab.engines.blocks.open_rows`.
      state: the metrics' state before them.
    """
    weights = *weights, [tf.constant(values) for values in state]
    data = (blocks.make_block([batches], open_rows),)
    function = replica.function(
        ("test", str(open_rows)), lambda replica: _test_function(replica, open_rows), weights, data
    )
    return [np.asarray(values) for values in function(*weights, *data)]


def _test_function(replica, open_rows):
    """The graph that measures a block of batches with `replica`'s variables."""

    @tf.function
    def test_block(trainable, non_trainable, state, block):
        assign(replica.model.trainable_variables, trainable)
        assign(non_trainable_weights(replica.model), non_trainable)
        return test_batches(replica, block, open_rows, state)

    return test_block


def test_batches(replica, block, open_rows, state):
    """In a graph: the metrics' state after the batches of the one client of a block, at the weights that `replica`'s variables have.

    `state` is that before them.
    """
    replica.reset_recurrent_states()
    assign(replica.metric_variables, state)
    fill = batching.fill_for(replica.model, batching.Batching())
    examples = blocks.examples_of(block, 0, open_rows)
    for i in tf.range(tf.shape(block.batches)[0]):
        batch = blocks.batch_columns(block, examples, i, replica.fixed_size, fill)
        replica.test(replica.batch(batch, block.num_examples[i]))
    return [variable.read_value() for variable in replica.metric_variables]
