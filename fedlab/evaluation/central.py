"""Central evaluation: what `model.evaluate` of Keras returns, computed on all cores."""

import collections.abc
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.clients import Batching, ClientData
from fedlab.clients.batching import MOST_ROWS
from fedlab.clients.columns import check_columns, num_rows
from fedlab.engines import batches as batching
from fedlab.engines import blocks, checks, client_work
from fedlab.engines.engine import Mapper, Work
from fedlab.engines.workers import Workers
from fedlab.evaluation.evaluation import Evaluation
from fedlab.learner import check_compiled, check_inputs, clone, recurrent_states, weight_arrays

_STEPS_AT_ONCE = 8


def evaluate(
    model: Any,
    data: ClientData | Mapping[str, np.ndarray],
    batch_size: int = 64,
    num_workers: int | None = None,
) -> dict[str, float]:
    """Evaluates a compiled Keras model on the examples of all clients together.

    The examples are read in the clients' order, in batches that may span clients. Loss
    and metrics are those of `model.evaluate(data.to_dataset(batch_size))` in plain
    Keras: the loss of a batch leaves its padding out, and batches are weighted by their
    rows. If clients have rows of different shapes, such as sequences of different
    lengths, a batch holds rows of one shape.

    Args:
      model: a compiled Keras model; it is not changed.
      data: a `ClientData`, or columns name -> [n, ...].
      batch_size: examples per step. A model built for a fixed batch size keeps its own.
      num_workers: threads; by default the number of cores.

    Returns:
      Name -> float, "loss" first, in Keras's names.

    Raises:
      TypeError, ValueError: the model, the data or an argument is wrong.
    """
    check_compiled(model)
    check_batch_size("batch_size", batch_size)
    examples = Examples(model, data, batch_size)
    workers = Workers(lambda: clone(model), examples.columns, num_workers)
    try:
        return examples.evaluate(workers, weight_arrays(model))
    finally:
        workers.close()


def evaluation(
    name: str, data: ClientData | Mapping[str, np.ndarray], model: Any, batch_size: int
) -> Evaluation:
    """The `Evaluation` of a data set; the arguments are those of `evaluate`."""
    examples = Examples(model, data, batch_size)
    clients = data if isinstance(data, ClientData) else ClientData.from_dict({"examples": data})
    settings = {"examples": examples.num_examples, "data": clients.fingerprint}
    return Evaluation(
        name, settings, lambda model: (examples.evaluate(model.engine, model.weights), [])
    )


class Examples:
    """The examples of a data set, checked and laid out once for all evaluations.

    Args:
      model, data, batch_size: as in `evaluate`.

    Attributes:
      columns: some of the examples, name -> [n, ...].
      num_examples: how many there are.

    Raises:
      TypeError, ValueError: the data are wrong, or there is no example.
    """

    def __init__(self, model: Any, data: ClientData | Mapping[str, np.ndarray], batch_size: int):
        groups = _groups(data)
        self.columns = groups[0]
        self.num_examples = sum(map(num_rows, groups))
        reading = Batching(batching.fixed_batch_size(model) or batch_size)
        fill = batching.fill_for(model, reading)
        self._specs = blocks.column_specs_of(groups)
        self._pieces = []
        for columns in groups:
            check_inputs(model, columns)
            checks.check(model, reading, columns)
            part = batching.in_order(columns, reading.batch_size, fill)
            block, num_steps = blocks.make_block([part], [blocks.pack(columns)]), len(part.real)
            # A recurrent state that continues from batch to batch needs one stream.
            at_once = num_steps if recurrent_states(model) else _STEPS_AT_ONCE
            self._pieces += [
                (block, tf.constant([first, min(first + at_once, num_steps)]))
                for first in range(0, num_steps, at_once or 1)
            ]

    def evaluate(self, engine: Mapper, weights: tuple[list[Any], list[Any]]) -> dict[str, float]:
        """Evaluates weights, (trainable, non-trainable); returns metric -> float."""
        weights = tf.nest.map_structure(tf.convert_to_tensor, weights)

        def work(state):
            return client_work.evaluate(weights, state, self._specs, lambda piece: (piece, None))

        return merged(engine, work, self._pieces)


def merged(engine: Mapper, work: Callable[[list], Work], items: Iterable[Any]) -> dict[str, float]:
    """The metrics of several items together, name -> float.

    With a metric that needs all batches in one stream, items are evaluated one after
    the other; without, several at a time.

    Args:
      engine: maps the work.
      work: the metrics' state before an item -> the `Work`, which returns the state
        after it.
      items: what it is mapped over.
    """
    merger = engine.merger
    total = merger.initial
    if merger.unmergeable:
        for item in items:
            ((total, _),) = engine.map(work(total), [item])
    else:
        for state, _ in engine.map(work(merger.initial), items):
            total = merger.merge(total, [np.asarray(values)[None] for values in state])
    return engine.metrics.results(total)


def check_batch_size(name: str, batch_size: int) -> None:
    """Raises ValueError for an impossible batch size; `name` is the argument's name."""
    _checks.check_int(name, batch_size, 1, MOST_ROWS, "such as 64")


def _groups(data):
    """The examples as a list of columns, one for each shape of rows."""
    if not isinstance(data, (ClientData, collections.abc.Mapping)):
        expected = "a fedlab.ClientData, or columns name -> array [n, ...]"
        raise _checks.type_error("data", data, expected)
    groups = _of_one_shape(data) if isinstance(data, ClientData) else [check_columns(data)]
    if not any(map(num_rows, groups)):
        raise ValueError("every client is empty: expected an example to evaluate on")
    return groups


def _of_one_shape(clients):
    """The columns of all clients, concatenated where their rows have the same shape."""
    if not any(column.is_open for column in clients.schema.values()):
        return [clients.to_arrays()]
    alike = {}
    for client_id in filter(clients.num_examples, clients):
        shapes = tuple(column.shape[1:] for column in clients.in_schema(client_id).values())
        alike.setdefault(shapes, []).append(client_id)
    return [clients.to_arrays(client_ids) for client_ids in alike.values()]
