"""Warnings about dropped clients, and an error after several rounds without any update."""

import collections
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fedlab import _checks

logger = logging.getLogger("fedlab")

_NOT_FINITE = "not finite"


class DroppedClients:
    """Watches for dropped clients in every round.

    Warnings go to the logger "fedlab". Clients that are dropped by the run's
    `conditions` cause a warning only if no client of a round is left. A round whose sampler
    has drawn no client, as Poisson sampling may, does not count as a round without an update.

    Args:
      max_dropped_rounds: the run stops after this number of consecutive rounds without
        a usable update, at least 1. With None, it never stops.

    Raises:
      ValueError: `max_dropped_rounds` is not such a number.
    """

    def __init__(self, max_dropped_rounds: int | None) -> None:
        if max_dropped_rounds is not None:
            _checks.check_int(
                "max_dropped_rounds",
                max_dropped_rounds,
                what="or None to continue after any number of rounds without a usable update",
            )
        self._max_dropped_rounds = max_dropped_rounds
        self._num_lost = 0  # consecutive rounds without a usable update
        self._warned_of_clients = False
        self._warned_of_round = False

    def resume(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Counts the rounds of an interrupted run that is resumed.

        Args:
          history: the rows of the history.

        Raises:
          RuntimeError: see `add`.
        """
        for row in history:
            self._count(row)
        self._check(history[-1]["round"], "see `reason` of the clients")

    def add(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Counts a round.

        Args:
          row: the round's row of the history.
          clients: the round's rows of `Run.clients`, without "round".

        Raises:
          RuntimeError: this is the last of `max_dropped_rounds` consecutive rounds
            without a usable update.
        """
        self._count(row)
        dropped = _dropped(row, clients)
        not_finite = [client_id for reason, client_id in dropped if reason == _NOT_FINITE]
        if self._num_lost and clients and not self._warned_of_round:
            logger.warning("round %d has no usable update (%s).", row["round"], _told(dropped))
            self._warned_of_clients = self._warned_of_round = True
        elif not_finite and not self._warned_of_clients:
            logger.warning(
                "round %d: %d of %d clients are dropped (%s), because their updates contain NaN or "
                "infinity. There is no further warning; see `clients_dropped` in the history.",
                row["round"],
                len(not_finite),
                len(clients),
                _told(dropped),
            )
            self._warned_of_clients = True
        self._check(row["round"], _told(dropped))

    def _count(self, row):
        if row.get("clients_asked"):
            self._num_lost = 0 if row["clients_finished"] else self._num_lost + 1

    def _check(self, round_num, reasons):
        if self._max_dropped_rounds is not None and self._num_lost >= self._max_dropped_rounds:
            lost = (
                f"round {round_num} has"
                if self._num_lost == 1
                else f"rounds {round_num - self._num_lost + 1} to {round_num} have"
            )
            raise RuntimeError(
                f"{lost} no usable update ({reasons}): lower the learning rate, look for NaN in "
                "the data, or continue with a larger max_dropped_rounds, now "
                f"{self._max_dropped_rounds}"
            )


def _dropped(row, clients):
    """(reason, client id) of each dropped client. The id is None if it is not known."""
    known = [(client["reason"], client["client_id"]) for client in clients if client["dropped"]]
    return known + [(_NOT_FINITE, None)] * (row["clients_dropped"] - len(known))


def _told(dropped):
    """Reasons with their numbers of clients and their first client, as text."""
    firsts = {}
    for reason, client_id in dropped:
        firsts.setdefault(reason, client_id)
    counts = collections.Counter(reason for reason, _ in dropped)
    parts = [
        f"{reason}: {n}{'' if firsts[reason] is None else f', first {firsts[reason]!r}'}"
        for reason, n in counts.items()
    ]
    return "; ".join(parts)
