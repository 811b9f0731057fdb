"""Learning rates that change from round to round. Rounds count from 1; within a round the rate is constant.

A schedule takes the place of a number wherever a learning rate is asked for: `optimizers.sgd(schedules.cosine(1.0, rounds=100))` on the
server, `fedlab.simulate(..., client_learning_rate=schedules.step(0.1, every=50))` on the clients.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from fedlab import _checks


class Schedule(NamedTuple):
    """A learning rate as a function of the round.

    Attributes:
      name: as its function is named.
      settings: the arguments it was made with.
      rate: float64 scalar, rounds done before this one -> float64 scalar.
    """

    name: str
    settings: dict
    rate: Callable

    def __call__(self, round_num):
        """The rate in a round: an int or an integer tensor, from 1 -> float64 scalar tensor. No graph is traced anew for another round."""
        return self.rate(tf.cast(round_num, tf.float64) - 1.0)


def constant(learning_rate):
    """The same rate in every round.

    Example:
      >>> constant(0.5)(7).numpy()
      0.5
    """
    _check_rate(learning_rate)
    return Schedule(
        "constant", dict(locals()), lambda done: tf.constant(learning_rate, tf.float64) + 0.0 * done
    )


def step(learning_rate, *, every, factor=0.1):
    """learning_rate * factor ** floor((round - 1) / every).

    Example:
      >>> schedule = step(1.0, every=2, factor=0.5)
      >>> [float(schedule(r)) for r in (1, 2, 3, 4, 5)]
      [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    _check_rate(learning_rate)
    _checks.check_int("every", every)
    _check_factor(factor)
    settings = dict(locals())
    return Schedule(
        "step",
        settings,
        lambda done: learning_rate
        * tf.pow(tf.constant(factor, tf.float64), tf.floor(done / every)),
    )


def exponential(learning_rate, *, factor):
    """learning_rate * factor ** (round - 1).

    Example:
      >>> [float(exponential(1.0, factor=0.5)(r)) for r in (1, 2, 3)]
      [1.0, 0.5, 0.25]
    """
    _check_rate(learning_rate)
    _check_factor(factor)
    return Schedule(
        "exponential",
        dict(locals()),
        lambda done: learning_rate * tf.pow(tf.constant(factor, tf.float64), done),
    )


def cosine(learning_rate, *, rounds, final=0.0):
    """Half a cosine from `learning_rate` in round 1 to `final` in round `rounds` + 1 and after (Loshchilov and Hutter 2017, Equation 5).

        final + (learning_rate - final) * (1 + cos(pi * min((round - 1) / rounds, 1))) / 2

    Example:
      >>> [round(float(cosine(1.0, rounds=4)(r)), 3) for r in (1, 3, 5, 9)]
      [1.0, 0.5, 0.0, 0.0]
    """
    _check_rate(learning_rate)
    _checks.check_int("rounds", rounds)
    _check_rate_of("final", final)
    settings = dict(locals())

    def rate(done):
        return (
            final
            + (learning_rate - final) * (1 + tf.cos(math.pi * tf.minimum(done / rounds, 1.0))) / 2
        )

    return Schedule("cosine", settings, rate)


def warm_up(learning_rate, *, rounds):
    """Grows linearly over the first `rounds` rounds, then goes on as `learning_rate`, a number or a schedule (Goyal et al. 2017, 2.2).

        min(round / rounds, 1) * learning_rate(round)

    Example:
      >>> [float(warm_up(1.0, rounds=4)(r)) for r in (1, 2, 4, 5)]
      [0.25, 0.5, 1.0, 1.0]
      >>> float(warm_up(step(1.0, every=4, factor=0.5), rounds=2)(5))
      0.5
    """
    _checks.check_int("rounds", rounds)
    settings = dict(locals())
    after = learning_rate if isinstance(learning_rate, Schedule) else constant(learning_rate)
    return Schedule(
        "warm_up", settings, lambda done: tf.minimum((done + 1.0) / rounds, 1.0) * after.rate(done)
    )


def _check_rate(learning_rate):
    _check_rate_of("learning_rate", learning_rate)


def _check_rate_of(name, rate):
    if not _checks.is_number(rate) or not 0 <= rate < math.inf:
        raise ValueError(f"{name} is {rate!r}; allowed: a number of 0 or more.")


def _check_factor(factor):
    if not _checks.is_number(factor) or not 0 < factor <= 1:
        raise ValueError(f"factor is {factor!r}; allowed: above 0, at most 1.")
