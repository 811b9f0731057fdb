"""Updates with a value that is too large are replaced by zeros.

delta_k = 0 where max |delta_k| > norm

For the adaptive bound: Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy.
NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

import math

from fedlab import ops
from fedlab.aggregators import norms
from fedlab.aggregators.aggregator import Aggregator, check
from fedlab.aggregators.mean import mean
from fedlab.optimizers.optimizer import zeros_like


def zeroed(
    inner: Aggregator | None = None,
    norm: norms.Norm = norms.adaptive(10.0, 0.98, math.log(10.0), multiplier=2.0, increment=1.0),
) -> Aggregator:
    """Replaces a delta by zeros if one of its values is larger than a norm C.

        delta_k = 0 where max |delta_k| > C

    This protects the model from broken clients. Such a client keeps its weight, so that its zeros
    reduce the mean, as in TFF.

    Args:
      inner: the aggregator of the updates, by default `mean()`.
      norm: the bound on the absolute values: a number above 0, or `adaptive(...)`. By default it
        is twice the 0.98 quantile plus one, which adapts quickly and starts at 21, as in TFF.

    Metrics: `zero_norm`, the norm in this round, and `zeroed_count`, the number of clients with a
    larger norm.

    Returns:
      An `Aggregator`.

    Raises:
      ValueError: the norm is out of range, or is adaptive around a private aggregator.

    Example:
      >>> zeroed(mean(), norm=100.0).name
      'zeroed'
    """
    inner = mean() if inner is None else check(inner)

    def measure(delta):
        return ops.max([ops.cast(ops.max(ops.absolute(d)), "float64") for d in delta])

    def change(delta, size, bound):
        return ops.cond(size > bound, lambda: zeros_like(delta), lambda: list(delta))

    def metrics(bound, clients, above):
        return {"zero_norm": bound, "zeroed_count": above}

    settings = {"inner": inner, "norm": norm}
    return norms.bounded(
        "zeroed", inner, norm, settings, measure=measure, change=change, metrics=metrics
    )
