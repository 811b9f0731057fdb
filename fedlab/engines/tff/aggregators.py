"""TFF's aggregators that compute the same as those of fedlab."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow_federated as tff

from fedlab.aggregators import norms, privacy
from fedlab.aggregators.aggregator import Aggregator


def build(aggregator: Aggregator) -> Any:
    """Returns the `tff.aggregators` factory that computes the same as `aggregator`.

    Raises:
      ValueError: TFF has no such aggregator.
    """
    if aggregator.name not in _FACTORIES:
        raise ValueError(
            f"engine='tff' with aggregator {aggregator.name!r}: expected {', '.join(_FACTORIES)}"
        )
    return _FACTORIES[aggregator.name](**aggregator.settings)


def metrics(
    aggregator: Aggregator, measurements: Mapping[str, Any], num_clients: int, round_num: int
) -> dict[str, float]:
    """Returns what TFF measured in a round under fedlab's names: name -> value.

    Args:
      aggregator: the aggregator of the run.
      measurements: the measurements of TFF's aggregation process.
      num_clients: the size of the cohort.
      round_num: the number of the round, which determines the epsilon spent.
    """
    if aggregator.name == "clipped":
        own = {
            "clip_norm": measurements["clipping_norm"],
            "clipped_fraction": measurements["clipped_count"] / num_clients,
        }
        inner = metrics(
            aggregator.settings["inner"], measurements["clipping"], num_clients, round_num
        )
    elif aggregator.name == "zeroed":
        own = {
            "zero_norm": measurements["zeroing_norm"],
            "zeroed_count": measurements["zeroed_count"],
        }
        inner = metrics(
            aggregator.settings["inner"], measurements["zeroing"], num_clients, round_num
        )
    else:
        own, inner = (
            privacy.metrics(aggregator.privacy, round_num) if aggregator.privacy else {},
            {},
        )
    return {**{name: float(value) for name, value in own.items()}, **inner}


def _mean():
    # If all weights are 0, there is no step, as with fedlab's mean.
    return tff.aggregators.MeanFactory(no_nan_division=True)


def _clipped(inner, norm):
    return tff.aggregators.clipping_factory(_norm(norm), build(inner))


def _zeroed(inner, norm):
    return tff.aggregators.zeroing_factory(_norm(norm), build(inner))


def _norm(norm):
    """Returns a number, or TFF's process that estimates a quantile over the whole cohort."""
    if not isinstance(norm, norms.Adaptive):
        return float(norm)
    return tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
        initial_estimate=norm.initial,
        target_quantile=norm.quantile,
        learning_rate=norm.learning_rate,
        multiplier=norm.multiplier,
        increment=norm.increment,
    )


def _differentially_private(
    noise_multiplier, clients_per_round, norm, clipped_count_stddev, num_clients, delta, sampling
):
    if not isinstance(norm, norms.Adaptive):
        return tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
            noise_multiplier=float(noise_multiplier),
            clients_per_round=float(clients_per_round),
            clip=float(norm),
        )
    return tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
        noise_multiplier=float(noise_multiplier),
        clients_per_round=float(clients_per_round),
        initial_l2_norm_clip=norm.initial,
        target_unclipped_quantile=norm.quantile,
        learning_rate=norm.learning_rate,
        clipped_count_stddev=clipped_count_stddev,
    )


_FACTORIES: dict[str, Callable] = {
    "mean": _mean,
    "clipped": _clipped,
    "zeroed": _zeroed,
    "differentially_private": _differentially_private,
}
