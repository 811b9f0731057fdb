"""Bounds on the norms of updates: a number, or an estimate of a quantile of the clients' norms.

b = fraction of the clients with ||delta_k|| <= C
C = C exp(-learning_rate (b - quantile))
norm = multiplier C + increment

Differentially Private Learning with Adaptive Clipping
Galen Andrew, Om Thakkar, H. Brendan McMahan, Swaroop Ramaswamy.
NeurIPS 2021. https://arxiv.org/abs/1905.03871
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab import _checks, ops
from fedlab.aggregators.aggregator import Aggregator
from fedlab.ops import Nest, Tensor, Weights


class Adaptive(NamedTuple):
    """A norm that follows a quantile of the clients' norms; see `adaptive`."""

    initial: float
    quantile: float
    learning_rate: float
    multiplier: float = 1.0
    increment: float = 0.0

    def start(self) -> Tensor:
        """The first estimate C, a float64 scalar."""
        return ops.convert_to_tensor(self.initial, "float64")

    def norm(self, estimate: Tensor) -> Tensor:
        """The bound for an estimate C."""
        return self.multiplier * estimate + self.increment

    def next(self, estimate: Tensor, below: Any) -> Tensor:
        """The estimate for the next round.

        Args:
          estimate: C in this round.
          below: the fraction of this round's clients with a norm of at most C.
        """
        error = ops.cast(below, "float64") - self.quantile
        return estimate * ops.exp(-self.learning_rate * error)


Norm = float | Adaptive


def adaptive(
    initial: float,
    quantile: float = 0.5,
    learning_rate: float = 0.2,
    *,
    multiplier: float = 1.0,
    increment: float = 0.0,
) -> Adaptive:
    """A norm that follows a quantile of the clients' norms (Andrew et al. 2021, Section 2.1).

        b = the fraction of the round's clients with a norm of at most C
        C = C exp(-learning_rate (b - quantile))                       the geometric update

    Args:
      initial: C in the first round, above 0.
      quantile: the target for b, between 0 and 1.
      learning_rate: at least 0. A round changes C by a factor of at most exp(learning_rate).
      multiplier, increment: the norm is multiplier * C + increment. They are above 0 and at
        least 0.

    Returns:
      An `Adaptive`, for `clipped`, `zeroed` and `differentially_private`.

    Raises:
      ValueError: a value is out of range.

    Example: all clients have a larger norm, so the result is 3.14159 exp(1.68).
      >>> norm = adaptive(3.14159, 0.61803, 2.71828)
      >>> round(float(norm.next(norm.start(), 0.0)), 3)
      16.856
    """
    return Adaptive(
        _checks.check_number("initial", initial, above=0),
        _checks.check_number("quantile", quantile, 0, 1),
        _checks.check_number("learning_rate", learning_rate, 0),
        _checks.check_number("multiplier", multiplier, above=0),
        _checks.check_number("increment", increment, 0),
    )


def get(norm: Norm) -> Adaptive:
    """Returns an `Adaptive` unchanged, and a constant one for a number.

    Raises:
      ValueError: it is neither an `Adaptive` nor a number above 0.
    """
    if isinstance(norm, Adaptive):
        return norm
    _checks.check_number("norm", norm, above=0, what="or fedlab.aggregators.adaptive(...)")
    return Adaptive(float(norm), 0.5, 0.0)


class BoundedState(NamedTuple):
    """State of `bounded`."""

    estimate: Tensor
    inner: Nest


class Counted(NamedTuple):
    """Accumulator of `bounded`: numbers of clients, float32 scalars.

    Attributes:
      clients: of all clients.
      below: of those with a norm of at most the estimate.
      above: of those with a norm above the bound.
      inner: the accumulator of the inner aggregator.
    """

    clients: Tensor
    below: Tensor
    above: Tensor
    inner: Nest


def bounded(
    name: str,
    inner: Aggregator,
    norm: Norm,
    settings: dict[str, Any],
    *,
    measure: Callable[[Weights], Tensor],
    change: Callable[[Weights, Tensor, Tensor], Weights],
    metrics: Callable[[Tensor, Tensor, Tensor], dict[str, Any]],
) -> Aggregator:
    """An aggregator that changes deltas with a norm above a bound and passes them to `inner`.

    Args:
      name, settings: of the aggregator.
      inner: the `Aggregator` of the changed updates.
      norm: a number above 0, or `adaptive(...)`.
      measure: delta -> norm.
      change: (delta, norm, bound) -> delta.
      metrics: (bound, number of clients, number of clients above it) -> metrics by name.

    Raises:
      ValueError: the norm is adaptive and `inner` is private. The norm adapts without noise, which
        would void the privacy guarantee.
    """
    norm = get(norm)
    if inner.privacy and norm.learning_rate:
        raise ValueError(
            f"norm: expected a number for {name} around {inner.name}, got an adaptive norm, which "
            "adapts without noise and voids the privacy guarantee: let differentially_private "
            "adapt the clip norm"
        )

    def init(weights):
        return BoundedState(norm.start(), inner.init(weights))

    def zero(state, weights):
        accumulator = inner.zero(state.inner, weights)
        return Counted(ops.zeros([]), ops.zeros([]), ops.zeros([]), accumulator)

    def accumulate(state, accumulator, delta, weight, seed):
        bound = norm.norm(state.estimate)
        size = measure(delta)
        counts = ops.cast(weight > 0, "float32")
        changed = change(delta, size, bound)
        return Counted(
            accumulator.clients + counts,
            accumulator.below + counts * ops.cast(size <= state.estimate, "float32"),
            accumulator.above + counts * ops.cast(size > bound, "float32"),
            inner.accumulate(state.inner, accumulator.inner, changed, weight, seed),
        )

    def merge(first, second):
        sums = [a + b for a, b in zip(first[:3], second[:3])]
        return Counted(*sums, inner.merge(first.inner, second.inner))

    def report(state, accumulator, seed):
        delta, inner_state, inner_metrics = inner.report(state.inner, accumulator.inner, seed)
        estimate = state.estimate
        if accumulator.clients > 0:
            estimate = norm.next(estimate, accumulator.below / accumulator.clients)
        values = metrics(norm.norm(state.estimate), accumulator.clients, accumulator.above)
        return delta, BoundedState(estimate, inner_state), {**values, **inner_metrics}

    return Aggregator(name, settings, init, zero, accumulate, merge, report, inner.privacy)
