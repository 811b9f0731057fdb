"""Norms that updates are held against: a number, or an estimate of a quantile of the clients' own norms.

b = share of the clients with ||delta_k|| <= C
C = C exp(-learning_rate (b - quantile))
norm = multiplier C + increment

Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy. NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from fedlab import _checks
from fedlab.aggregators.aggregator import Aggregator


class Adaptive(NamedTuple):
    """A norm that follows a quantile of the clients' norms; see `adaptive`."""

    initial: float
    quantile: float
    learning_rate: float
    multiplier: float = 1.0
    increment: float = 0.0

    def start(self):
        """The first estimate C, float64 scalar."""
        return tf.constant(self.initial, tf.float64)

    def norm(self, estimate):
        return self.multiplier * estimate + self.increment

    def next(self, estimate, below):
        """The estimate of the next round. `below`: the share of this round's clients whose norm was at most the estimate."""
        return estimate * tf.exp(-self.learning_rate * (tf.cast(below, tf.float64) - self.quantile))


def adaptive(initial, quantile=0.5, learning_rate=0.2, *, multiplier=1.0, increment=0.0):
    """A norm that follows a quantile of the clients' norms (Andrew et al. 2021, section 2.1, the geometric update).

        C = C exp(-learning_rate (b - quantile)),    b = the share of the round's clients with a norm of at most C

    Args:
      initial: C of the first round, above 0.
      quantile: the share of the clients whose norm is to be at most C, between 0 and 1.
      learning_rate: 0 or more; a round changes C by a factor of at most exp(learning_rate).
      multiplier, increment: the norm is multiplier * C + increment, above 0 and 0 or more.

    Returns:
      An `Adaptive`, for `clipped`, `zeroed` and `differentially_private`.

    Raises:
      ValueError: for a value out of range.

    Example:
      >>> norm = adaptive(3.14159, 0.61803, 2.71828)
      >>> round(float(norm.next(norm.start(), 0.0)), 3)  # all clients are above: 3.14159 exp(1.68)
      16.856
    """
    for name, value, least in (("initial", initial, 0), ("multiplier", multiplier, 0)):
        if not _checks.is_number(value) or not least < value < math.inf:
            raise ValueError(f"{name} is {value!r}; allowed: a number above 0.")
    if not _checks.is_number(quantile) or not 0 <= quantile <= 1:
        raise ValueError(f"quantile is {quantile!r}; allowed: 0 to 1.")
    for name, value in (("learning_rate", learning_rate), ("increment", increment)):
        if not _checks.is_number(value) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}; allowed: a number of 0 or more.")
    return Adaptive(*map(float, (initial, quantile, learning_rate, multiplier, increment)))


def get(norm):
    """An `Adaptive` as it is, a number as one that stays.

    Raises:
      ValueError: for anything else, and for a number that is not above 0.
    """
    if isinstance(norm, Adaptive):
        return norm
    if not _checks.is_number(norm) or not 0 < norm < math.inf:
        raise ValueError(
            f"norm is {norm!r}; allowed: a number above 0, or fedlab.aggregators.adaptive(...)."
        )
    return Adaptive(float(norm), 0.5, 0.0)


class Held(NamedTuple):
    """State of `hold`."""

    estimate: Any
    inner: Any


class Counted(NamedTuple):
    """Accumulator of `hold`: float32 scalars of clients, of those below the estimate, of those above the norm."""

    clients: Any
    below: Any
    above: Any
    inner: Any


def hold(name, inner, norm, settings, *, measure, change, metrics):
    """An aggregator that changes the updates whose norm is above a bound and hands them to `inner`.

    Args:
      name, settings: of the aggregator.
      inner: the `Aggregator` of the changed updates.
      norm: a number above 0, or `adaptive(...)`.
      measure: delta -> its norm.
      change: (delta, its norm, the bound) -> delta.
      metrics: (bound, clients, clients above it) -> name -> scalar.

    Raises:
      ValueError: where a norm that adapts without noise would void the inner aggregator's privacy guarantee.
    """
    norm = get(norm)
    if inner.privacy and norm.learning_rate:
        raise ValueError(
            f"{name} adapts its norm to the clients' updates without noise, which voids the privacy guarantee of {inner.name}: give it a "
            "number as norm, and let differentially_private adapt the clipping norm."
        )

    def init(weights):
        return Held(norm.start(), inner.init(weights))

    def zero(state, weights):
        return Counted(tf.zeros([]), tf.zeros([]), tf.zeros([]), inner.zero(state.inner, weights))

    def accumulate(state, accumulator, delta, weight, seed):
        bound = norm.norm(state.estimate)
        size = measure(delta)
        counts = tf.cast(weight > 0, tf.float32)
        return Counted(
            accumulator.clients + counts,
            accumulator.below + counts * tf.cast(size <= state.estimate, tf.float32),
            accumulator.above + counts * tf.cast(size > bound, tf.float32),
            inner.accumulate(
                state.inner, accumulator.inner, change(delta, size, bound), weight, seed
            ),
        )

    def merge(first, second):
        sums = [a + b for a, b in zip(first[:3], second[:3])]
        return Counted(*sums, inner.merge(first.inner, second.inner))

    def report(state, accumulator, seed):
        delta, inner_state, inner_metrics = inner.report(state.inner, accumulator.inner, seed)
        estimate = state.estimate
        if accumulator.clients > 0:
            estimate = norm.next(estimate, accumulator.below / accumulator.clients)
        own = metrics(norm.norm(state.estimate), accumulator.clients, accumulator.above)
        return delta, Held(estimate, inner_state), {**own, **inner_metrics}

    return Aggregator(name, settings, init, zero, accumulate, merge, report, inner.privacy)
