"""The weighted mean (McMahan et al. 2017, Algorithm 1)."""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.aggregators.aggregator import Aggregator


class WeightedSum(NamedTuple):
    total: Any
    weight: Any


def mean():
    """sum_k p_k delta_k / sum_k p_k; zero where all weights are zero."""

    def zero(weights):
        return WeightedSum([tf.zeros_like(w) for w in weights], tf.zeros([]))

    def accumulate(accumulator, delta, weight):
        total = [t + weight * d for t, d in zip(accumulator.total, delta)]
        return WeightedSum(total, accumulator.weight + weight)

    def merge(first, second):
        return tf.nest.map_structure(tf.add, first, second)

    def report(accumulator):
        return [tf.math.divide_no_nan(t, accumulator.weight) for t in accumulator.total], {}

    return Aggregator("mean", zero, accumulate, merge, report)
