"""The weighted mean.

delta = sum_k p_k delta_k / sum_k p_k

Communication-Efficient Learning of Deep Networks from Decentralized Data
Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Aguera y Arcas.
AISTATS 2017. https://arxiv.org/abs/1602.05629
"""

from typing import NamedTuple

from fedlab import ops
from fedlab.aggregators.aggregator import Aggregator
from fedlab.ops import Tensor, Weights
from fedlab.optimizers.optimizer import zeros_like


class WeightedSum(NamedTuple):
    """Sums of the weighted deltas, and of the weights: a float64 scalar, exact for large counts."""

    total: Weights
    weight: Tensor


def mean() -> Aggregator:
    """The weighted mean of the clients' deltas (McMahan et al. 2017, Algorithm 1).

        delta = sum_k p_k delta_k / sum_k p_k,    zero if all weights p_k are zero

    Returns:
      An `Aggregator`. It needs the memory of one update, whatever the cohort.

    Example:
      >>> mean().name
      'mean'
    """

    def init(weights):
        return ()

    def zero(state, weights):
        return WeightedSum(zeros_like(weights), ops.zeros([], "float64"))

    def accumulate(state, accumulator, delta, weight, seed):
        total = [t + ops.cast(weight, d.dtype) * d for t, d in zip(accumulator.total, delta)]
        return WeightedSum(total, accumulator.weight + ops.cast(weight, "float64"))

    def merge(first, second):
        return ops.map_structure(ops.add, first, second)

    def report(state, accumulator, seed):
        total, weight = accumulator
        return [ops.divide_no_nan(t, ops.cast(weight, t.dtype)) for t in total], state, {}

    return Aggregator("mean", {}, init, zero, accumulate, merge, report)
