"""Dropped clients in a run: a warning when the first is dropped, an error when all are in several rounds."""

import collections
import logging

from fedlab import _checks

logger = logging.getLogger("fedlab")

_NOT_FINITE = "not finite"


class DroppedClients:
    """Watches for dropped clients, round after round.

    Warnings go to the logger "fedlab". Clients that the caller's conditions drop are what the caller
    asked for: they are only mentioned where a whole round is lost.

    Args:
      max_dropped_rounds: how many consecutive rounds may be without a usable update before the run
        stops, 1 or more; None for any number.
    """

    def __init__(self, max_dropped_rounds):
        if max_dropped_rounds is not None:
            _checks.check_int(
                "max_dropped_rounds",
                max_dropped_rounds,
                what="or None to continue after any number of rounds without a usable update",
            )
        self._max_dropped_rounds = max_dropped_rounds
        self._num_lost = 0
        self._warned_of_clients = False
        self._warned_of_round = False

    def resume(self, history):
        """Counts the rounds that an earlier start has done. Raises as `add`."""
        for row in history:
            self._count(row)
        self._check(history[-1]["round"], "see `reason` of the clients")

    def add(self, row, clients):
        """Counts a round.

        Args:
          row: the round's row of the history.
          clients: its rows of `Run.clients`, without "round".

        Raises:
          RuntimeError: it is the last of `max_dropped_rounds` rounds without a usable update.
        """
        self._count(row)
        dropped = _dropped(row, clients)
        not_finite = [client_id for reason, client_id in dropped if reason == _NOT_FINITE]
        if self._num_lost and not self._warned_of_round:
            logger.warning("round %d has no usable update (%s).", row["round"], _told(dropped))
            self._warned_of_clients = self._warned_of_round = True
        elif not_finite and not self._warned_of_clients:
            logger.warning(
                "round %d: %d of %d clients are dropped (%s): an update with NaN or infinity does not count. "
                "Later ones are only counted, as `clients_dropped`.",
                row["round"],
                len(not_finite),
                len(clients),
                _told(dropped),
            )
            self._warned_of_clients = True
        self._check(row["round"], _told(dropped))

    def _count(self, row):
        if "clients_finished" in row:
            self._num_lost = 0 if row["clients_finished"] else self._num_lost + 1

    def _check(self, round_num, reasons):
        if self._max_dropped_rounds is not None and self._num_lost >= self._max_dropped_rounds:
            lost = (
                f"round {round_num} has"
                if self._num_lost == 1
                else f"rounds {round_num - self._num_lost + 1} to {round_num} have"
            )
            raise RuntimeError(
                f"{lost} no usable update ({reasons}): lower the learning rate or look for NaN in the data; "
                f"or continue with a larger max_dropped_rounds, now {self._max_dropped_rounds}."
            )


def _dropped(row, clients):
    """(reason, client id) of each dropped client. The id is None where the engine does not know it."""
    known = [(client["reason"], client["client_id"]) for client in clients if client["dropped"]]
    return known + [(_NOT_FINITE, None)] * (row["clients_dropped"] - len(known))


def _told(dropped):
    """Reasons, each with its number of clients and the first of them, as text."""
    firsts = {}
    for reason, client_id in dropped:
        firsts.setdefault(reason, client_id)
    counts = collections.Counter(reason for reason, _ in dropped)
    parts = [
        f"{reason}: {n}{'' if firsts[reason] is None else f', first {firsts[reason]!r}'}"
        for reason, n in counts.items()
    ]
    return "; ".join(parts)
