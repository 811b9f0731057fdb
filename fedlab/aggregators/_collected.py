"""Aggregators that need all updates at once. They store one update per client of the cohort."""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import ops
from fedlab.aggregators.aggregator import Aggregator
from fedlab.ops import Tensor

_VALUES_PER_PIECE = 2**16  # so that a piece fits into the cache of a core

Rows = Sequence[np.ndarray]  # one tensor's values per client, [size] each


class Updates(NamedTuple):
    """The updates of a block of clients. An accumulator is a tuple of such blocks.

    Attributes:
      deltas: for each tensor of the update an `ops.tensor_list` of the clients' tensors.
      weights: a list of the client weights.
      like: for each tensor of the update an empty tensor [0, ...] of its dtype and shape.
    """

    deltas: list[Tensor]
    weights: Tensor
    like: list[Tensor]


def collect(
    name: str, settings: dict[str, Any], combine: Callable[[list[Rows]], list[np.ndarray]]
) -> Aggregator:
    """An aggregator that reports `combine(tensors)` of the clients with a weight above 0.

    It reports zeros if there are no such clients.

    Args:
      name, settings: of the aggregator.
      combine: for each tensor of the update the clients' values, read-only arrays [size]
        -> for each tensor an array [size].
    """

    def init(weights):
        return ()

    def zero(state, weights):
        like = [ops.zeros([0, *w.shape], w.dtype) for w in weights]
        lists = [ops.tensor_list(w) for w in weights]
        return (Updates(lists, ops.tensor_list(ops.zeros([])), like),)

    def accumulate(state, accumulator, delta, weight, seed):
        *blocks, (deltas, weights, like) = accumulator
        deltas = [ops.append(tensors, d) for tensors, d in zip(deltas, delta)]
        return (*blocks, Updates(deltas, ops.append(weights, weight), like))

    def report(state, accumulator, seed):
        like = accumulator[0].like
        clients = [client for block in accumulator for client in _weighted(block)]
        combined = (
            combine(list(zip(*clients)))
            if clients
            else [np.zeros(f.shape[1:].num_elements()) for f in like]
        )
        delta = [
            ops.reshape(ops.convert_to_tensor(c, f.dtype), f.shape[1:])
            for c, f in zip(combined, like)
        ]
        return delta, state, {}

    return Aggregator(name, settings, init, zero, accumulate, operator.add, report)


def _weighted(block: Updates) -> Iterator[list[np.ndarray]]:
    """The values of each client with a weight above 0: a list of arrays [size]."""
    deltas = [
        ops.to_arrays(tensors, like.shape[1:], like.dtype)
        for tensors, like in zip(block.deltas, block.like)
    ]
    for k, weight in enumerate(ops.to_arrays(block.weights, [], "float32")):
        if weight > 0:
            yield [tensors[k].reshape(-1) for tensors in deltas]


def pieces(rows: Rows, dtype: Any) -> Iterator[np.ndarray]:
    """Yields all clients' values of one tensor, [some of size, clients] at a time.

    Each piece overwrites the one before.

    Args:
      rows: the clients' arrays [size].
      dtype: of the pieces.
    """
    num_rows, size = len(rows), len(rows[0])
    memory = np.empty([min(size, max(1, _VALUES_PER_PIECE // num_rows)), num_rows], dtype)
    for start in range(0, size, max(1, len(memory))):
        piece = memory[: size - start]
        for k, row in enumerate(rows):
            piece[:, k] = row[start : start + len(piece)]
        yield piece


def by_coordinate(rows: Rows, combine: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Combines the clients' values of one tensor to an array [size].

    Args:
      rows: the clients' arrays [size].
      combine: the clients' values in ascending order, [some of size, clients] -> [some of size].
    """
    combined = [np.zeros(0, rows[0].dtype)]
    for piece in pieces(rows, rows[0].dtype):
        piece.sort(axis=1)
        combined.append(combine(piece))
    return np.concatenate(combined)


def num_of(share: float, num_clients: int) -> int:
    """The largest number of clients that is at most a share of them.

    A share such as 0.3 is not exact in binary.
    """
    return int(share * num_clients + 1e-9)
