"""TFF's own aggregators, where they are the same as ours."""

import tensorflow_federated as tff

from fedlab.aggregators import norms, privacy


def build(aggregator):
    """The `tff.aggregators` factory that does what `aggregator` does.

    Raises:
      ValueError: where TFF has none.
    """
    if aggregator.name not in _FACTORIES:
        raise ValueError(
            f"engine 'tff' has no aggregator {aggregator.name!r}; allowed: {', '.join(_FACTORIES)}."
        )
    return _FACTORIES[aggregator.name](**aggregator.settings)


def metrics(aggregator, measurements, num_clients, round_num):
    """What TFF measured in a round, by our names: name -> float.

    Args:
      aggregator: the `Aggregator`.
      measurements: of TFF's aggregation process.
      num_clients: of the round's cohort.
      round_num: so many rounds have spent their epsilon.
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
    return tff.aggregators.MeanFactory(
        no_nan_division=True
    )  # all weights zero: no step, as in ours


def _clipped(inner, norm):
    return tff.aggregators.clipping_factory(_norm(norm), build(inner))


def _zeroed(inner, norm):
    return tff.aggregators.zeroing_factory(_norm(norm), build(inner))


def _norm(norm):
    """A number, or TFF's estimation of a quantile, which divides by all clients of the cohort."""
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


_FACTORIES = {
    "mean": _mean,
    "clipped": _clipped,
    "zeroed": _zeroed,
    "differentially_private": _differentially_private,
}
