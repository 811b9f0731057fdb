"""Aggregators that need every update at once. Their memory grows with the cohort: one update a client."""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.aggregators.aggregator import Aggregator


class Updates(NamedTuple):
    """The clients' updates one below the other, tensors of [clients, ...], and their weights, [clients]."""

    deltas: Any
    weights: Any


def keep(name, settings, combine):
    """An aggregator that reports `combine(deltas)`, where deltas are tensors of [clients, ...] of the clients with a weight above 0.

    It reports zeros where there is none.
    """

    def init(weights):
        return ()

    def zero(state, weights):
        return Updates([_no_rows(w) for w in weights], _no_rows(tf.zeros([])))

    def accumulate(state, accumulator, delta, weight, seed):
        return merge(accumulator, Updates([d[None] for d in delta], weight[None]))

    def merge(first, second):
        return tf.nest.map_structure(lambda a, b: tf.concat([a, b], axis=0), first, second)

    def report(state, accumulator, seed):
        counted = accumulator.weights > 0
        deltas = [tf.boolean_mask(d, counted) for d in accumulator.deltas]
        if not tf.reduce_any(counted):
            return [tf.zeros(d.shape[1:], d.dtype) for d in deltas], state, {}
        return combine(deltas), state, {}

    return Aggregator(name, settings, init, zero, accumulate, merge, report)


def _no_rows(tensor):
    """[0, ...] with a number of rows that a graph takes for unknown, so that it may grow in a loop."""
    return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([0, *tensor.shape], tensor.dtype), shape=[None, *tensor.shape])


def num_of(share, num_clients):
    """The largest number of clients that is at most a share of them; a share such as .3 is not exact in binary."""
    return int(share * num_clients + 1e-9)
