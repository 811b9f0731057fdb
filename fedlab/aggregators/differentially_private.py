"""The mean of clipped updates with Gaussian noise: central differential privacy.

delta = (sum_k clip(delta_k, C) + N(0, (z' C)^2)) / clients_per_round
b = 1/2 + (sum_k (1[||delta_k|| <= C] - 1/2) + N(0, s^2)) / clients_per_round     where C adapts, z' = (z^-2 - (2 s)^-2)^-1/2
C = C exp(-learning_rate (b - quantile))                                          where it is fixed, z' = z

Learning Differentially Private Recurrent Language Models
H. Brendan McMahan, Daniel Ramage, Kunal Talwar, Li Zhang. ICLR 2018. https://arxiv.org/abs/1710.06963

Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy. NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from fedlab import _checks
from fedlab.aggregators import norms, privacy
from fedlab.aggregators.aggregator import Aggregator
from fedlab.aggregators.clipped import l2_norm


class State(NamedTuple):
    estimate: Any
    rounds: Any


class ClippedSum(NamedTuple):
    """Sum of clipped updates; float32 scalars of clients, and of those not clipped."""

    total: Any
    clients: Any
    below: Any


def differentially_private(
    noise_multiplier,
    clients_per_round,
    num_clients,
    *,
    norm=norms.adaptive(0.1, 0.5, 0.2),
    delta=1e-5,
    sampling="poisson",
    clipped_count_stddev=None,
):
    """The sum of clipped updates plus Gaussian noise, over a number of clients that is fixed beforehand, with the epsilon spent so far.

    A client is what is protected, with all its examples. The guarantee covers the global models; a simulation's own metrics (training
    loss, rows of clients) are as they are. It takes nothing that treats the sum: what treats single updates goes around it, as in
    `quantized(differentially_private(...))`.

    Args:
      noise_multiplier: z: the noise's standard deviation as a multiple of the clipping norm, 0 or more; that of adapting included.
      clients_per_round: the (expected) number of clients a round, above 0.
      num_clients: how many clients the run draws from.
      norm: the clipping norm: a number above 0, or `adaptive(...)`; by default it follows the median from 0.1, as TFF's does.
      delta: for which epsilon is reported; well below 1 / num_clients.
      sampling: how cohorts are drawn: "poisson", as `fedlab.clients.poisson(clients_per_round)`, or "uniform", as `fedlab.clients.uniform`;
        see `fedlab.aggregators.privacy.Privacy`. Prefer "poisson": "uniform" has to hide one client
        in another's place, which costs several times as much (14.09 instead of 1.71 in the example of
        `privacy.epsilon`).
      clipped_count_stddev: s above; by default .05 clients_per_round.

    The rule, with C, z, s and b, is at the head of this module (McMahan et al. 2018, Algorithm 1; Andrew et al. 2021, Algorithm 1).

    Metrics: `clip_norm`, the norm of this round; `clipped_fraction`, the true share of clients above it; `noise_stddev`, of the noise in
    each value of the mean; `epsilon`, spent so far, by the privacy loss distribution with
    "poisson" and by Rényi divergences with "uniform". With "uniform" also `epsilon_poisson`, what
    Poisson sampling of as many clients would have spent: a comparison, not a guarantee.

    Returns:
      An `Aggregator` with a `privacy`. Runs refuse it where cohorts, weights or what clients send beside the update would void that.

    Raises:
      ValueError: for a value out of range.

    Example:
      >>> differentially_private(1.2, 120, 3383).privacy.noise_multiplier
      1.2
    """
    settings = dict(locals())
    bound = norms.get(norm)
    adapts = bound.learning_rate > 0
    if (bound.multiplier, bound.increment) != (1.0, 0.0):
        raise ValueError(
            f"norm has multiplier {bound.multiplier:g} and increment {bound.increment:g}; allowed here: 1 and 0."
        )
    if not _checks.is_number(noise_multiplier) or not 0 <= noise_multiplier < math.inf:
        raise ValueError(f"noise_multiplier is {noise_multiplier!r}; allowed: 0 or more.")
    _checks.check_int("num_clients", num_clients)
    if not _checks.is_number(clients_per_round) or not 0 < clients_per_round <= num_clients:
        raise ValueError(
            f"clients_per_round is {clients_per_round!r}; allowed: above 0, to num_clients, {num_clients!r}."
        )
    if not _checks.is_number(delta) or not 0 < delta < 1:
        raise ValueError(f"delta is {delta!r}; allowed: between 0 and 1.")
    if sampling not in privacy.SAMPLINGS:
        raise ValueError(f"sampling is {sampling!r}; allowed: {', '.join(privacy.SAMPLINGS)}.")
    guarantee = privacy.Privacy(
        float(noise_multiplier), clients_per_round, num_clients, delta, sampling
    )
    count_stddev, value_multiplier = _split_noise(
        float(noise_multiplier), clients_per_round, clipped_count_stddev, adapts
    )

    def init(weights):
        return State(bound.start(), tf.constant(0, tf.int64))

    def zero(state, weights):
        return ClippedSum([tf.zeros_like(w) for w in weights], tf.zeros([]), tf.zeros([]))

    def accumulate(state, accumulator, delta, weight, seed):
        size = l2_norm(delta)
        counts = tf.cast(
            weight > 0, tf.float32
        )  # so that no weight makes a client's share larger than the norm
        scale = tf.cast(counts, tf.float64) * tf.minimum(
            tf.constant(1.0, tf.float64), tf.math.divide_no_nan(state.estimate, size)
        )
        return ClippedSum(
            [t + tf.cast(scale, d.dtype) * d for t, d in zip(accumulator.total, delta)],
            accumulator.clients + counts,
            accumulator.below + counts * tf.cast(size <= state.estimate, tf.float32),
        )

    def merge(first, second):
        return tf.nest.map_structure(tf.add, first, second)

    def report(state, accumulator, seed):
        total, clients, below = accumulator
        stddev = value_multiplier * state.estimate
        noise = [
            _noise(tensor, tf.random.fold_in(seed, i), stddev)
            for i, tensor in enumerate(total, start=1)
        ]
        mean = [(t + tf.cast(n, t.dtype)) / clients_per_round for t, n in zip(total, noise)]
        estimate, rounds = state.estimate, state.rounds + 1
        if adapts:
            count_noise = tf.random.stateless_normal(
                [], tf.random.fold_in(seed, 0), stddev=count_stddev
            )
            share = 0.5 + (below - 0.5 * clients + count_noise) / clients_per_round
            estimate = bound.next(estimate, tf.clip_by_value(share, 0.0, 1.0))
        metrics = {
            "clip_norm": state.estimate,
            "clipped_fraction": tf.math.divide_no_nan(clients - below, clients),
            "noise_stddev": stddev / clients_per_round,
            **privacy.metrics(guarantee, int(rounds)),
        }
        return mean, State(estimate, rounds), metrics

    return Aggregator(
        "differentially_private", settings, init, zero, accumulate, merge, report, guarantee
    )


def _noise(like, seed, stddev):
    dtype = tf.float64 if like.dtype == tf.float64 else tf.float32
    return tf.random.stateless_normal(like.shape, seed, stddev=tf.cast(stddev, dtype), dtype=dtype)


def _split_noise(noise_multiplier, clients_per_round, count_stddev, adapts):
    """Standard deviation of the count's noise, and multiplier of the update's, that together are worth `noise_multiplier`."""
    if not adapts or not noise_multiplier:
        return 0.0, noise_multiplier
    if count_stddev is None:
        count_stddev = 0.05 * clients_per_round
    if not 2 * count_stddev > noise_multiplier:
        raise ValueError(
            f"clipped_count_stddev is {count_stddev:g}; allowed: above {noise_multiplier / 2:g}, half the noise_multiplier. Raise it "
            "(or clients_per_round, of which it is .05 by default), or give a fixed norm."
        )
    return count_stddev, (noise_multiplier**-2 - (2 * count_stddev) ** -2) ** -0.5
