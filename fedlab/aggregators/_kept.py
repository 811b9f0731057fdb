"""Aggregators that need every update at once. Their memory grows with the cohort: one update a client."""

import math
import operator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.aggregators.aggregator import Aggregator


class Updates(NamedTuple):
    """The updates of a block of clients one below the other, tensors of [clients, ...], and their weights, [clients].

    An accumulator is a tuple of such blocks.
    """

    deltas: Any
    weights: Any


def keep(name, settings, combine):
    """An aggregator that reports `combine(values)` of the clients with a weight above 0, and zeros where there is none.

    Args:
      name, settings: of the aggregator.
      combine: a list of NumPy arrays [clients, size], one for each tensor of the update -> a list of arrays [size].
    """

    def init(weights):
        return ()

    def zero(state, weights):
        return (Updates([_no_rows(w) for w in weights], _no_rows(tf.zeros([]))),)

    def accumulate(state, accumulator, delta, weight, seed):
        *blocks, (deltas, weights) = accumulator
        deltas = [tf.concat([kept, d[None]], axis=0) for kept, d in zip(deltas, delta)]
        return (*blocks, Updates(deltas, tf.concat([weights, weight[None]], axis=0)))

    def report(state, accumulator, seed):
        counted = [block.weights.numpy() > 0 for block in accumulator]
        num_clients = sum(map(np.count_nonzero, counted))
        tensors = list(zip(*(block.deltas for block in accumulator)))  # of each tensor, its blocks
        values = [np.concatenate([part.numpy()[rows] for part, rows in zip(parts, counted)]) for parts in tensors]
        values = [v.reshape(num_clients, math.prod(v.shape[1:])) for v in values]
        combined = combine(values) if num_clients else [np.zeros(v.shape[1]) for v in values]
        return [tf.constant(c, parts[0].dtype, parts[0].shape[1:]) for c, parts in zip(combined, tensors)], state, {}

    return Aggregator(name, settings, init, zero, accumulate, operator.add, report)


def _no_rows(tensor):
    """[0, ...] with a number of rows that a graph takes for unknown, so that it may grow in a loop."""
    return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([0, *tensor.shape], tensor.dtype), shape=[None, *tensor.shape])


def partitioned(values, ranks):
    """[size, clients] of values [clients, size], each row with what a full sort would put at these ranks there, less before, more after."""
    return np.partition(np.ascontiguousarray(values.T), ranks, axis=1)


def num_of(share, num_clients):
    """The largest number of clients that is at most a share of them; a share such as .3 is not exact in binary."""
    return int(share * num_clients + 1e-9)
