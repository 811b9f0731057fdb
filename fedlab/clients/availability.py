"""Clients as they are: some drop out, some are slow.

A condition is a function `(client_id, round_num, seed) -> Work` without a state: how a client of a round's cohort fares. Conditions are
drawn for each client and round on their own, and several of them hold together.
"""

import functools
from typing import NamedTuple

from fedlab import _checks
from fedlab.clients import seeding


class Work(NamedTuple):
    """What a client does in a round.

    Attributes:
      share: of its steps that it takes, above 0; it takes at least one.
      lost: why nothing of it arrives, such as "dropout", or "" where it arrives.
    """

    share: float = 1.0
    lost: str = ""


def dropouts(rate):
    """A client of a cohort drops out of the round with probability `rate`: it was asked, and nothing of it arrives.

    Example:
      >>> dropouts(1.0)("a", round_num=1, seed=0).lost
      'dropout'
    """
    return functools.partial(_dropouts, rate=_rate(rate))


def _dropouts(client_id, round_num, seed, *, rate):
    drawn = seeding.generator(seed, "dropouts", round_num, client_id).random() < rate
    return Work(lost="dropout" if drawn else "")


def stragglers(rate, *, drop=False):
    """A client is slow with probability `rate`: by the deadline it has done a share of its steps that is uniform between 0 and 1.

    What it has done by then is used, as in FedProx (Li et al. 2020, section 5.2); or, with `drop`, it has missed the deadline and
    nothing of it arrives, as in FedAvg.

    Args:
      rate: between 0 and 1.
      drop: whether slow clients are dropped.
    """
    return functools.partial(_stragglers, rate=_rate(rate), drop=bool(drop))


def _stragglers(client_id, round_num, seed, *, rate, drop):
    rng = seeding.generator(seed, "stragglers", round_num, client_id)
    if rng.random() >= rate:
        return Work()
    return Work(lost="deadline") if drop else Work(share=1.0 - rng.random())  # above 0


def together(conditions):
    """Several conditions as one: the smallest share, and the first reason to be lost.

    Example:
      >>> together([stragglers(0.0), dropouts(1.0)])("a", 1, 0)
      Work(share=1.0, lost='dropout')
    """
    return functools.partial(_together, conditions=[check(condition) for condition in conditions])


def _together(client_id, round_num, seed, *, conditions):
    works = [fare(condition, client_id, round_num, seed) for condition in conditions]
    lost = next((work.lost for work in works if work.lost), "")
    return Work(min((work.share for work in works), default=1.0), lost)


def check(condition):
    """Returns a condition, or raises TypeError where it is none."""
    if not callable(condition):
        raise TypeError(
            f"a condition is {condition!r:.60}; allowed: fedlab.clients.dropouts(...), stragglers(...), or a function."
        )
    return condition


def fare(condition, client_id, round_num, seed):
    """What a condition says of a client, checked: it may be a caller's own."""
    work = condition(client_id, round_num, seed)
    if (
        not isinstance(work, Work)
        or not isinstance(work.lost, str)
        or not (_checks.is_number(work.share) and 0 < work.share <= 1)
    ):
        raise ValueError(
            f"a condition gave {work!r:.80} for client {client_id!r}; allowed: a fedlab.clients.Work with a share above 0, at most 1, and a "
            "text as lost."
        )
    return work


def _rate(rate):
    return _checks.check_number("rate", rate, 0, 1)
