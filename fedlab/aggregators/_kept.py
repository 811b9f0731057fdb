"""Aggregators that need every update at once. Their memory grows with the cohort: one update a client."""

import operator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.aggregators.aggregator import Aggregator

_VALUES_A_PIECE = 2**16  # what works on a piece then stays in a core's cache


class Updates(NamedTuple):
    """The updates of a block of clients. An accumulator is a tuple of such blocks.

    Attributes:
      deltas: for each tensor of the update a list of the clients' ones, as TensorFlow keeps lists: a scalar of dtype variant. It holds the
        clients' tensors as they are, where a tensor of [clients, ...] would be copied for each client that comes.
      weights: such a list of the clients' weights.
      forms: for each tensor of the update an empty one of [0, ...], which tells its dtype and shape.
    """

    deltas: Any
    weights: Any
    forms: Any


def keep(name, settings, combine):
    """An aggregator that reports `combine(tensors)` of the clients with a weight above 0, and zeros where there is none.

    Args:
      name, settings: of the aggregator.
      combine: for each tensor of the update a list of the clients' values, read-only NumPy arrays [size] -> for each an array [size].
    """

    def init(weights):
        return ()

    def zero(state, weights):
        forms = [tf.zeros([0, *w.shape], w.dtype) for w in weights]
        return (Updates([_list(w) for w in weights], _list(tf.zeros([])), forms),)

    def accumulate(state, accumulator, delta, weight, seed):
        *blocks, (deltas, weights, forms) = accumulator
        return (*blocks, Updates(list(map(_push, deltas, delta)), _push(weights, weight), forms))

    def report(state, accumulator, seed):
        forms = accumulator[0].forms
        clients = [client for block in accumulator for client in _counted(block)]
        combined = (
            combine(list(zip(*clients)))
            if clients
            else [np.zeros(f.shape[1:].num_elements()) for f in forms]
        )
        return [tf.constant(c, f.dtype, f.shape[1:]) for c, f in zip(combined, forms)], state, {}

    return Aggregator(name, settings, init, zero, accumulate, operator.add, report)


def _list(like):
    return tf.raw_ops.EmptyTensorList(
        element_shape=like.shape, max_num_elements=-1, element_dtype=like.dtype
    )


def _push(kept, tensor):
    return tf.raw_ops.TensorListPushBack(input_handle=kept, tensor=tensor)


def _item(kept, index, shape, dtype):
    return np.asarray(
        tf.raw_ops.TensorListGetItem(
            input_handle=kept, index=index, element_shape=shape, element_dtype=dtype
        )
    )


def _counted(block):
    """The values of each client with a weight above 0: a list of arrays [size]."""
    for k in range(int(tf.raw_ops.TensorListLength(input_handle=block.weights))):
        if _item(block.weights, k, [], tf.float32) > 0:
            yield [
                _item(kept, k, form.shape[1:], form.dtype).reshape(-1)
                for kept, form in zip(block.deltas, block.forms)
            ]


def pieces(rows, dtype):
    """All clients' values of one tensor piece by piece, arrays [some of size, clients] of a dtype; the same memory holds each in turn.

    Args:
      rows: a list of the clients' arrays [size].
      dtype: of the pieces.
    """
    num_rows, size = len(rows), len(rows[0])
    memory = np.empty([min(size, max(1, _VALUES_A_PIECE // num_rows)), num_rows], dtype)
    for start in range(0, size, max(1, len(memory))):
        piece = memory[: size - start]
        for k, row in enumerate(rows):
            piece[:, k] = row[start : start + len(piece)]
        yield piece


def by_coordinate(rows, combine):
    """What becomes of each value of one tensor: an array [size].

    Args:
      rows: a list of the clients' arrays [size].
      combine: [some of size, clients], the clients' values in order of their size -> [some of size].
    """
    combined = [np.zeros(0, rows[0].dtype)]
    for piece in pieces(rows, rows[0].dtype):
        piece.sort(axis=1)
        combined.append(combine(piece))
    return np.concatenate(combined)


def num_of(share, num_clients):
    """The largest number of clients that is at most a share of them; a share such as .3 is not exact in binary."""
    return int(share * num_clients + 1e-9)
