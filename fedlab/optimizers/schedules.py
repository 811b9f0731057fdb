"""Learning rates that change from round to round. Rounds count from 1.

A schedule can be passed in place of a number as a learning rate: on the server as in
`optimizers.sgd(schedules.cosine(1.0, rounds=100))`, on the clients as in
`fedlab.simulate(..., client_learning_rate=schedules.step(0.1, every=50))`. The rate is constant
within a round.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab import _checks, ops
from fedlab.ops import Tensor


class Schedule(NamedTuple):
    """A learning rate as a function of the round.

    Attributes:
      name: the name of the function that makes it.
      settings: the arguments of that function.
      rate: number of rounds done so far -> learning rate; both are float64 scalars.
    """

    name: str
    settings: dict[str, Any]
    rate: Callable[[Tensor], Tensor]

    def __call__(self, round_num: int | Tensor) -> Tensor:
        """The learning rate in a round, a float64 scalar.

        Args:
          round_num: an integer or an integer tensor, from 1. A tensor avoids that a graph is
            traced for every round.
        """
        return self.rate(ops.cast(round_num, "float64") - 1.0)


def constant(learning_rate: float) -> Schedule:
    """The same rate in every round.

    Example:
      >>> constant(0.5)(7).numpy()
      0.5
    """
    _check_rate("learning_rate", learning_rate)

    def rate(done):
        return ops.convert_to_tensor(learning_rate, "float64") + 0.0 * done

    return Schedule("constant", {"learning_rate": learning_rate}, rate)


def step(learning_rate: float, *, every: int, factor: float = 0.1) -> Schedule:
    """learning_rate * factor ** floor((round - 1) / every).

    Example:
      >>> schedule = step(1.0, every=2, factor=0.5)
      >>> [float(schedule(r)) for r in (1, 2, 3, 4, 5)]
      [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    _check_rate("learning_rate", learning_rate)
    every = _checks.check_int("every", every)
    _check_factor(factor)
    settings = {"learning_rate": learning_rate, "every": every, "factor": factor}

    def rate(done):
        base = ops.convert_to_tensor(factor, "float64")
        return learning_rate * ops.power(base, ops.floor(done / every))

    return Schedule("step", settings, rate)


def exponential(learning_rate: float, *, factor: float) -> Schedule:
    """learning_rate * factor ** (round - 1).

    Example:
      >>> [float(exponential(1.0, factor=0.5)(r)) for r in (1, 2, 3)]
      [1.0, 0.5, 0.25]
    """
    _check_rate("learning_rate", learning_rate)
    _check_factor(factor)
    settings = {"learning_rate": learning_rate, "factor": factor}

    def rate(done):
        return learning_rate * ops.power(ops.convert_to_tensor(factor, "float64"), done)

    return Schedule("exponential", settings, rate)


def cosine(learning_rate: float, *, rounds: int, final: float = 0.0) -> Schedule:
    """Half a cosine wave from `learning_rate` to `final` (Loshchilov and Hutter 2017, Equation 5).

        final + (learning_rate - final) * (1 + cos(pi * min((round - 1) / rounds, 1))) / 2

    The rate is `final` from round `rounds` + 1 on.

    Example:
      >>> [round(float(cosine(1.0, rounds=4)(r)), 3) for r in (1, 3, 5, 9)]
      [1.0, 0.5, 0.0, 0.0]
    """
    _check_rate("learning_rate", learning_rate)
    rounds = _checks.check_int("rounds", rounds)
    _check_rate("final", final)
    settings = {"learning_rate": learning_rate, "rounds": rounds, "final": final}

    def rate(done):
        wave = 1 + ops.cos(math.pi * ops.minimum(done / rounds, 1.0))
        return final + (learning_rate - final) * wave / 2

    return Schedule("cosine", settings, rate)


def warm_up(learning_rate: float | Schedule, *, rounds: int) -> Schedule:
    """Grows linearly over the first `rounds` rounds (Goyal et al. 2017, Section 2.2).

        min(round / rounds, 1) * learning_rate(round)

    Args:
      learning_rate: a number, or the schedule that follows.
      rounds: at least 1.

    Example:
      >>> [float(warm_up(1.0, rounds=4)(r)) for r in (1, 2, 4, 5)]
      [0.25, 0.5, 1.0, 1.0]
      >>> float(warm_up(step(1.0, every=4, factor=0.5), rounds=2)(5))
      0.5
    """
    rounds = _checks.check_int("rounds", rounds)
    after = learning_rate if isinstance(learning_rate, Schedule) else constant(learning_rate)
    settings = {"learning_rate": learning_rate, "rounds": rounds}

    def rate(done):
        return ops.minimum((done + 1.0) / rounds, 1.0) * after.rate(done)

    return Schedule("warm_up", settings, rate)


def _check_rate(name: str, rate: Any) -> None:
    _checks.check_number(name, rate, 0)


def _check_factor(factor: Any) -> None:
    if not _checks.is_number(factor) or not 0 < factor <= 1:
        raise _checks.value_error("factor", factor, "a number above 0 and at most 1")
