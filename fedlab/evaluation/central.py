"""Central evaluation: what `model.evaluate` of Keras returns, computed on all cores."""

import collections.abc
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.clients import Batching, ClientData
from fedlab.clients.batching import MOST_ROWS
from fedlab.clients.columns import check_columns, concatenate, num_bytes, num_rows
from fedlab.engines import batches as batching
from fedlab.engines import blocks, checks, client_work
from fedlab.engines.engine import Mapper, Work
from fedlab.engines.workers import Workers
from fedlab.evaluation.evaluation import Evaluation
from fedlab.learner import check_compiled, check_inputs, clone, recurrent_states, weight_arrays

HELD_BYTES = 2**28
"""The size limit of the examples that are kept as tensors between evaluations: 256 MiB."""

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
    """The examples of a data set, checked once, and laid out in parts of a few batches.

    Parts up to `HELD_BYTES` in all are kept between evaluations. Further parts are read
    from the clients again in each evaluation, so that a data set can exceed the memory.

    Args:
      model, data, batch_size: as in `evaluate`.

    Attributes:
      columns: some of the examples, name -> [n, ...].
      num_examples: how many there are.

    Raises:
      TypeError, ValueError: the data are wrong, or there is no example.
    """

    def __init__(self, model: Any, data: ClientData | Mapping[str, np.ndarray], batch_size: int):
        self._clients = _clients(data)
        reading = Batching(batching.fixed_batch_size(model) or batch_size)
        self._batch_size = reading.batch_size
        self._fill = batching.fill_for(model, reading)
        self._last: tuple[str, dict[str, np.ndarray]] = "", {}
        # A recurrent state that continues from batch to batch needs one stream.
        most = math.inf if recurrent_states(model) else _STEPS_AT_ONCE * reading.batch_size
        self._parts = self._divide(most)
        if not self._parts:
            raise ValueError("every client is empty: expected an example to evaluate on")
        self.num_examples, self._held, held_bytes = 0, {}, 0
        shapes: dict[Any, dict[str, np.ndarray]] = {}
        for i, part in enumerate(self._parts):
            columns = self._read(part)
            check_inputs(model, columns)
            checks.check(model, reading, columns)
            shapes.setdefault(_shapes(columns), columns)
            self.num_examples += num_rows(columns)
            held_bytes += num_bytes(columns)
            if held_bytes <= HELD_BYTES:
                self._held[i] = self._lay_out(columns)
        self.columns = next(iter(shapes.values()))
        self._specs = blocks.column_specs_of([*shapes.values()])

    def evaluate(self, engine: Mapper, weights: tuple[list[Any], list[Any]]) -> dict[str, float]:
        """Evaluates weights, (trainable, non-trainable); returns metric -> float."""
        weights = tf.nest.map_structure(tf.convert_to_tensor, weights)

        def prepare(i):
            held = self._held.get(i)
            return held or self._lay_out(self._read(self._parts[i])), None

        def work(state):
            return client_work.evaluate(weights, state, self._specs, prepare)

        return merged(engine, work, range(len(self._parts)))

    def _divide(self, most_rows: float) -> list[list[tuple[str, slice]]]:
        """Returns the parts: lists of (client id, its rows), with at most `most_rows` in all.

        All parts but the last have exactly so many. If clients have rows of different
        shapes, such as sequences of different lengths, this holds for each shape.
        """
        parts: dict[Any, list[list[tuple[str, slice]]]] = {}
        free: dict[Any, float] = {}  # in the last part
        for client_id in filter(self._clients.num_examples, self._clients):
            columns = self._columns(client_id)
            shapes, first = _shapes(columns), 0
            while first < num_rows(columns):
                if not free.get(shapes):
                    parts.setdefault(shapes, []).append([])
                    free[shapes] = most_rows
                size = int(min(free[shapes], num_rows(columns) - first))
                parts[shapes][-1].append((client_id, slice(first, first + size)))
                free[shapes] -= size
                first += size
        return [part for of_shape in parts.values() for part in of_shape]

    def _columns(self, client_id: str) -> dict[str, np.ndarray]:
        if self._last[0] != client_id:
            self._last = client_id, self._clients.in_schema(client_id)
        return self._last[1]

    def _read(self, part: list[tuple[str, slice]]) -> dict[str, np.ndarray]:
        read = []
        for client_id, rows in part:
            columns = self._columns(client_id)
            read.append((client_id, {name: column[rows] for name, column in columns.items()}))
        return concatenate(read, self._clients.schema)

    def _lay_out(self, columns: dict[str, np.ndarray]) -> tuple[blocks.Block, tf.Tensor]:
        batches = batching.in_order(columns, self._batch_size, self._fill)
        block = blocks.make_block([batches], [blocks.pack(columns)])
        return block, blocks.all_steps(block)


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


def _clients(data: ClientData | Mapping[str, np.ndarray]) -> ClientData:
    if isinstance(data, ClientData):
        return data
    if not isinstance(data, collections.abc.Mapping):
        expected = "a fedlab.ClientData, or columns name -> array [n, ...]"
        raise _checks.type_error("data", data, expected)
    return ClientData.from_dict({"examples": check_columns(data)})


def _shapes(columns: Mapping[str, np.ndarray]) -> tuple[tuple[int, ...], ...]:
    return tuple(column.shape[1:] for column in columns.values())
