"""The weighted mean.

delta = sum_k p_k delta_k / sum_k p_k

Communication-Efficient Learning of Deep Networks from Decentralized Data
Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Aguera y Arcas. AISTATS 2017. https://arxiv.org/abs/1602.05629
"""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.aggregators.aggregator import Aggregator


class WeightedSum(NamedTuple):
    """Sum of the weighted updates, and of the weights: a float64 scalar, exact for large counts."""

    total: Any
    weight: Any


def mean():
    """The mean of the clients' updates, weighted (McMahan et al. 2017, Algorithm 1).

        delta = sum_k p_k delta_k / sum_k p_k,    zero where all weights p_k are zero

    Returns:
      An `Aggregator`. Its memory is that of one update, whatever the cohort.

    Example:
      >>> mean().name
      'mean'
    """

    def init(weights):
        return ()

    def zero(state, weights):
        return WeightedSum([tf.zeros_like(w) for w in weights], tf.zeros([], tf.float64))

    def accumulate(state, accumulator, delta, weight, seed):
        total = [t + tf.cast(weight, d.dtype) * d for t, d in zip(accumulator.total, delta)]
        return WeightedSum(total, accumulator.weight + tf.cast(weight, tf.float64))

    def merge(first, second):
        return tf.nest.map_structure(tf.add, first, second)

    def report(state, accumulator, seed):
        return (
            [
                tf.math.divide_no_nan(t, tf.cast(accumulator.weight, t.dtype))
                for t in accumulator.total
            ],
            state,
            {},
        )

    return Aggregator("mean", {}, init, zero, accumulate, merge, report)
