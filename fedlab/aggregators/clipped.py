"""Updates clipped to a norm, fixed or adaptive.

delta_k = delta_k min(1, norm / ||delta_k||_2)

Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy.
NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

from fedlab import ops
from fedlab.aggregators import norms
from fedlab.aggregators.aggregator import Aggregator, check
from fedlab.aggregators.mean import mean
from fedlab.ops import Tensor, Weights


def clipped(
    inner: Aggregator | None = None, norm: norms.Norm = norms.adaptive(1.0, 0.8, 0.2)
) -> Aggregator:
    """Clips each client's delta to a norm C (Andrew et al. 2021, Section 2).

        delta_k = delta_k min(1, C / ||delta_k||_2),    the norm of all tensors together

    Args:
      inner: the aggregator of the clipped updates, by default `mean()`.
      norm: a number above 0, or `adaptive(...)`. By default it follows the 0.8 quantile of the
        clients' norms, starting from 1.0, as in TFF.

    Metrics: `clip_norm`, the norm in this round, and `clipped_fraction`, the fraction of clients
    with a larger norm.

    Returns:
      An `Aggregator`. An adaptive norm ignores clients of weight 0; in TFF they count.

    Raises:
      ValueError: the norm is out of range, or is adaptive around a private aggregator.

    Example:
      >>> clipped(mean(), norm=0.5).settings["norm"]
      0.5
    """
    inner = mean() if inner is None else check(inner)

    def change(delta, size, bound):
        scale = ops.where(size > bound, bound / size, 1.0)  # times 1.0 a delta keeps its bits
        return [ops.cast(scale, d.dtype) * d for d in delta]

    def metrics(bound, clients, above):
        return {"clip_norm": bound, "clipped_fraction": ops.divide_no_nan(above, clients)}

    settings = {"inner": inner, "norm": norm}
    return norms.bounded(
        "clipped", inner, norm, settings, measure=l2_norm, change=change, metrics=metrics
    )


def l2_norm(delta: Weights) -> Tensor:
    """The square root of the sum of all squares, a float64 scalar."""
    return ops.sqrt(ops.add_n([ops.cast(ops.sum(ops.square(d)), "float64") for d in delta]))
