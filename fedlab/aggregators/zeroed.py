"""Updates with a value too large taken as zero, the bound fixed or adaptive.

delta_k = 0 where max |delta_k| > norm

The adaptive bound: Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy. NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

import math

import tensorflow as tf

from fedlab.aggregators import norms
from fedlab.aggregators.aggregator import check
from fedlab.aggregators.mean import mean


def zeroed(
    inner=None, norm=norms.adaptive(10.0, 0.98, math.log(10.0), multiplier=2.0, increment=1.0)
):
    """Replaces an update by zeros where one of its values is larger than a norm C: a broken client must not break the model.

        delta_k = 0 where max |delta_k| > C

    The client keeps its weight, so that zeroed updates pull the mean towards zero, as in TFF.

    Args:
      inner: the aggregator of the updates; by default `mean()`.
      norm: of the largest absolute value: a number above 0, or `adaptive(...)`. By default twice the .98 quantile plus one, quickly
        adapting from 21, as TFF's does.

    Metrics: `zero_norm`, the norm of this round, and `zeroed_count`, how many clients were above it.

    Returns:
      An `Aggregator`.

    Raises:
      ValueError: for a norm out of range, or one that adapts without noise around a private aggregator.

    Example:
      >>> zeroed(mean(), norm=100.0).name
      'zeroed'
    """
    inner = mean() if inner is None else check(inner)

    def measure(delta):
        return tf.reduce_max([tf.cast(tf.reduce_max(tf.abs(d)), tf.float64) for d in delta])

    def change(delta, size, bound):
        return tf.cond(size > bound, lambda: [tf.zeros_like(d) for d in delta], lambda: list(delta))

    def metrics(bound, clients, above):
        return {"zero_norm": bound, "zeroed_count": above}

    settings = {"inner": inner, "norm": norm}
    return norms.hold(
        "zeroed", inner, norm, settings, measure=measure, change=change, metrics=metrics
    )
