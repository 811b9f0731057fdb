"""The mean of clipped updates with Gaussian noise: central differential privacy.

delta = (sum_k clip(delta_k, C) + N(0, (z' C)^2)) / clients_per_round

If C is fixed, z' = z. If it is adaptive, z' = (z^-2 - (2 s)^-2)^-1/2 and

b = 1/2 + (sum_k (1[||delta_k|| <= C] - 1/2) + N(0, s^2)) / clients_per_round
C = C exp(-learning_rate (b - quantile))

Learning Differentially Private Recurrent Language Models
H. Brendan McMahan, Daniel Ramage, Kunal Talwar, Li Zhang.
ICLR 2018. https://arxiv.org/abs/1710.06963

Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy.
NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

from typing import NamedTuple

from fedlab import _checks, ops
from fedlab.aggregators import norms, privacy
from fedlab.aggregators.aggregator import Aggregator
from fedlab.aggregators.clipped import l2_norm
from fedlab.ops import Tensor, Weights
from fedlab.optimizers.optimizer import zeros_like


class State(NamedTuple):
    """The estimate C, and the number of rounds so far."""

    estimate: Tensor
    rounds: Tensor


class ClippedSum(NamedTuple):
    """Sum of clipped updates, number of clients, and number of clients that were not clipped."""

    total: Weights
    clients: Tensor
    below: Tensor


def differentially_private(
    noise_multiplier: float,
    clients_per_round: float,
    num_clients: int,
    *,
    norm: norms.Norm = norms.adaptive(0.1, 0.5, 0.2),
    delta: float = 1e-5,
    sampling: str = "poisson",
    clipped_count_stddev: float | None = None,
) -> Aggregator:
    """The noised sum of clipped updates, divided by a fixed number of clients.

    A client with all its examples is protected. The guarantee covers the global models. It does
    not cover the simulation's own metrics, such as the training loss and the rows of clients.
    Wrappers that change single updates go around it, as in
    `quantized(differentially_private(...))`.

    The rule, with C, z, s and b, is at the top of this module (McMahan et al. 2018, Algorithm 1;
    Andrew et al. 2021, Algorithm 1).

    Args:
      noise_multiplier: z, the standard deviation of the noise as a multiple of the clip norm, at
        least 0. It includes the noise for the adaptation of C.
      clients_per_round: the (expected) cohort size, above 0.
      num_clients: the number of clients that cohorts are drawn from.
      norm: the clip norm C: a number above 0, or `adaptive(...)`. By default it follows the
        median of the norms, starting from 0.1, as in TFF.
      delta: the delta for which epsilon is reported. Choose it well below 1 / num_clients.
      sampling: how cohorts are drawn: "poisson", as `fedlab.clients.poisson(clients_per_round)`,
        or "uniform", as `fedlab.clients.uniform`; see `fedlab.aggregators.privacy.Privacy`.
        Prefer "poisson". With "uniform", epsilon is several times as large (14.09 instead of 1.71
        in the example of `privacy.epsilon`), because the neighbouring data set has another client
        in one client's place.
      clipped_count_stddev: s, by default 0.05 clients_per_round.

    Metrics: `clip_norm`, the norm in this round; `clipped_fraction`, the true fraction of clients
    with a larger norm; `noise_stddev`, the standard deviation of the noise in each value of the
    mean; `epsilon`, spent so far, computed by the privacy loss distribution with "poisson" and by
    Rényi divergences with "uniform". With "uniform" there is also `epsilon_poisson`, which Poisson
    sampling of as many clients would have spent: a comparison, not a guarantee.

    Returns:
      An `Aggregator` with a `privacy`. A run is refused if its cohorts, client weights or extras
      void the guarantee.

    Raises:
      ValueError: a value is out of range.

    Example:
      >>> differentially_private(1.2, 120, 3383).privacy.noise_multiplier
      1.2
    """
    settings = {
        "noise_multiplier": noise_multiplier,
        "clients_per_round": clients_per_round,
        "num_clients": num_clients,
        "norm": norm,
        "delta": delta,
        "sampling": sampling,
        "clipped_count_stddev": clipped_count_stddev,
    }
    bound = norms.get(norm)
    is_adaptive = bound.learning_rate > 0
    if (bound.multiplier, bound.increment) != (1.0, 0.0):
        raise _checks.value_error("norm", norm, "a multiplier of 1 and an increment of 0")
    _checks.check_number("noise_multiplier", noise_multiplier, 0)
    _checks.check_int("num_clients", num_clients)
    if not _checks.is_number(clients_per_round) or not 0 < clients_per_round <= num_clients:
        raise _checks.value_error(
            "clients_per_round",
            clients_per_round,
            f"a number above 0 and at most {num_clients}, the number of clients",
        )
    _checks.check_number("delta", delta, above=0, below=1)
    if sampling not in privacy.SAMPLINGS:
        raise _checks.value_error("sampling", sampling, " or ".join(map(repr, privacy.SAMPLINGS)))
    guarantee = privacy.Privacy(
        float(noise_multiplier), clients_per_round, num_clients, delta, sampling
    )
    count_stddev, value_multiplier = _split_noise(
        float(noise_multiplier), clients_per_round, clipped_count_stddev, is_adaptive
    )

    def init(weights):
        return State(bound.start(), ops.zeros([], "int64"))

    def zero(state, weights):
        return ClippedSum(zeros_like(weights), ops.zeros([]), ops.zeros([]))

    def accumulate(state, accumulator, delta, weight, seed):
        size = l2_norm(delta)
        # 0 or 1, whatever the weight: a client contributes at most the clip norm.
        counts = ops.cast(weight > 0, "float32")
        ratio = ops.divide_no_nan(state.estimate, size)
        scale = ops.cast(counts, "float64") * ops.minimum(
            ops.convert_to_tensor(1.0, "float64"), ratio
        )
        return ClippedSum(
            [t + ops.cast(scale, d.dtype) * d for t, d in zip(accumulator.total, delta)],
            accumulator.clients + counts,
            accumulator.below + counts * ops.cast(size <= state.estimate, "float32"),
        )

    def merge(first, second):
        return ops.map_structure(ops.add, first, second)

    def report(state, accumulator, seed):
        total, clients, below = accumulator
        stddev = value_multiplier * state.estimate
        noise = [_noise(t, ops.fold_in(seed, i), stddev) for i, t in enumerate(total, start=1)]
        mean = [(t + ops.cast(n, t.dtype)) / clients_per_round for t, n in zip(total, noise)]
        estimate, rounds = state.estimate, state.rounds + 1
        if is_adaptive:
            count_noise = ops.normal([], stddev=count_stddev, seed=ops.fold_in(seed, 0))
            fraction = 0.5 + (below - 0.5 * clients + count_noise) / clients_per_round
            estimate = bound.next(estimate, ops.clip(fraction, 0.0, 1.0))
        metrics = {
            "clip_norm": state.estimate,
            "clipped_fraction": ops.divide_no_nan(clients - below, clients),
            "noise_stddev": stddev / clients_per_round,
            **privacy.metrics(guarantee, int(rounds)),
        }
        return mean, State(estimate, rounds), metrics

    return Aggregator(
        "differentially_private", settings, init, zero, accumulate, merge, report, guarantee
    )


def _noise(like: Tensor, seed: Tensor, stddev: Tensor) -> Tensor:
    dtype = "float64" if like.dtype == "float64" else "float32"
    return ops.normal(like.shape, stddev=ops.cast(stddev, dtype), dtype=dtype, seed=seed)


def _split_noise(
    noise_multiplier: float,
    clients_per_round: float,
    count_stddev: float | None,
    is_adaptive: bool,
) -> tuple[float, float]:
    """The count's standard deviation s and the update's multiplier z', together worth z."""
    if not is_adaptive or not noise_multiplier:
        return 0.0, noise_multiplier
    if count_stddev is None:
        count_stddev = 0.05 * clients_per_round
    if not 2 * count_stddev > noise_multiplier:
        raise _checks.value_error(
            "clipped_count_stddev",
            count_stddev,
            f"a number above {noise_multiplier / 2:g}, half the noise_multiplier: raise it (or "
            "clients_per_round, of which it is 0.05 by default), or pass a fixed norm",
        )
    return count_stddev, (noise_multiplier**-2 - (2 * count_stddev) ** -2) ** -0.5
