"""Availability: clients that drop out of a round, and clients that are slow.

A condition is a function `(client_id, round_num, seed) -> Participation` without state.
It is evaluated for each client of a round's cohort independently, and several
conditions can be combined.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fedlab import _checks
from fedlab.clients import seeding


class Participation(NamedTuple):
    """What a client of the cohort does in a round.

    Attributes:
      share: the share of its steps that the client takes, above 0 and at most 1; at
        least one step is taken.
      drop_reason: why the client is dropped, such as "dropout"; "" if it is not
        dropped. The update of a dropped client never reaches the server.
    """

    share: float = 1.0
    drop_reason: str = ""


Condition = Callable[[str, int, int], Participation]


def dropouts(rate: float) -> Condition:
    """Each client of the cohort is dropped with probability `rate`.

    Example:
      >>> dropouts(1.0)("a", round_num=1, seed=0).drop_reason
      'dropout'
    """
    return functools.partial(_dropouts, rate=_checks.check_number("rate", rate, 0, 1))


def _dropouts(client_id: str, round_num: int, seed: int, *, rate: float) -> Participation:
    drawn = seeding.generator(seed, "dropouts", round_num, client_id).random() < rate
    return Participation(drop_reason="dropout" if drawn else "")


def stragglers(rate: float, *, drop: bool = False) -> Condition:
    """Each client of the cohort is slow with probability `rate`.

    By the deadline of the round, a slow client has finished a share of its steps that
    is uniform between 0 and 1. Its partial work is used, as in FedProx (Li et al. 2020,
    section 5.2). With `drop=True` the client is dropped instead, as in FedAvg.

    Args:
      rate: between 0 and 1.
      drop: whether slow clients are dropped.
    """
    rate = _checks.check_number("rate", rate, 0, 1)
    return functools.partial(_stragglers, rate=rate, drop=bool(drop))


def _stragglers(
    client_id: str, round_num: int, seed: int, *, rate: float, drop: bool
) -> Participation:
    rng = seeding.generator(seed, "stragglers", round_num, client_id)
    if rng.random() >= rate:
        return Participation()
    if drop:
        return Participation(drop_reason="deadline")
    return Participation(share=1.0 - rng.random())  # above 0


def together(conditions: Sequence[Condition]) -> Condition:
    """Combines conditions: the smallest share, and the first reason to drop the client.

    Example:
      >>> together([stragglers(0.0), dropouts(1.0)])("a", 1, 0)
      Participation(share=1.0, drop_reason='dropout')
    """
    return functools.partial(_together, conditions=[check_condition(c) for c in conditions])


def _together(
    client_id: str, round_num: int, seed: int, *, conditions: Sequence[Condition]
) -> Participation:
    parts = [participation(condition, client_id, round_num, seed) for condition in conditions]
    return Participation(
        min((part.share for part in parts), default=1.0),
        next((part.drop_reason for part in parts if part.drop_reason), ""),
    )


def check_condition(condition: Any) -> Condition:
    """Returns a condition, or raises TypeError if it is not callable."""
    if not callable(condition):
        raise _checks.type_error(
            "conditions", condition, "fedlab.clients.dropouts(...), stragglers(...), or a function"
        )
    return condition


def participation(condition: Condition, client_id: str, round_num: int, seed: int) -> Participation:
    """Returns what a condition, which may be a user's function, gives for a client.

    Raises:
      ValueError: it is not a valid `Participation`.
    """
    part = condition(client_id, round_num, seed)
    if (
        not isinstance(part, Participation)
        or not isinstance(part.drop_reason, str)
        or not (_checks.is_number(part.share) and 0 < part.share <= 1)
    ):
        raise _checks.value_error(
            f"the condition of client {client_id!r}",
            part,
            "a fedlab.clients.Participation with a share above 0 and at most 1, and a string as "
            "drop_reason",
        )
    return part
