"""Updates clipped to a norm, fixed or adaptive.

delta_k = delta_k min(1, norm / ||delta_k||_2)

Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy. NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

import tensorflow as tf

from fedlab.aggregators import norms
from fedlab.aggregators.aggregator import check
from fedlab.aggregators.mean import mean


def clipped(inner=None, norm=norms.adaptive(1.0, 0.8, 0.2)):
    """Clips each client's update, all its tensors together, to a norm C, fixed or adaptive (Andrew et al. 2021, section 2).

        delta_k = delta_k min(1, C / ||delta_k||_2)

    Args:
      inner: the aggregator of the clipped updates; by default `mean()`.
      norm: a number above 0, or `adaptive(...)`. By default it follows the .8 quantile of the clients' norms from 1.0, as TFF's does.

    Metrics: `clip_norm`, the norm of this round, and `clipped_fraction`, the share of clients above it.

    Returns:
      An `Aggregator`. An adaptive norm counts only clients of a weight above 0; TFF's counts the others too, as below.

    Raises:
      ValueError: for a norm out of range, or one that adapts without noise around a private aggregator.

    Example:
      >>> clipped(mean(), norm=0.5).settings["norm"]
      0.5
    """
    inner = mean() if inner is None else check(inner)

    def change(delta, size, bound):
        scale = tf.where(size > bound, bound / size, 1.0)  # times 1 an update keeps its bits
        return [tf.cast(scale, d.dtype) * d for d in delta]

    def metrics(bound, clients, above):
        return {"clip_norm": bound, "clipped_fraction": tf.math.divide_no_nan(above, clients)}

    settings = {"inner": inner, "norm": norm}
    return norms.hold(
        "clipped", inner, norm, settings, measure=l2_norm, change=change, metrics=metrics
    )


def l2_norm(delta):
    """sqrt(sum of all squares), float64 scalar."""
    return tf.sqrt(tf.add_n([tf.cast(tf.reduce_sum(tf.square(d)), tf.float64) for d in delta]))
