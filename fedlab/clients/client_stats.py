"""What a run knows about each client, for cohort samplers and client weights."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fedlab.clients.client_data import ClientData


class ClientStats(NamedTuple):
    """What is known about one client before a round.

    Attributes:
      client_id: the client's id.
      num_examples: the number of rows of its data.
      last_loss: its mean training loss in the last round in which that was finite, or
        None.
      last_round: the last round whose cohort included it, or None.
      last_reason: why its update did not count in that round, as `reason` in
        `Run.clients`: "not finite", "dropout", "deadline", or "" if it counted. None if
        there is no such round.
      times_sampled: the number of cohorts that included it.
    """

    client_id: str
    num_examples: int
    last_loss: float | None = None
    last_round: int | None = None
    last_reason: str | None = None
    times_sampled: int = 0


class ClientHistory(Mapping[str, ClientStats]):
    """Client id -> `ClientStats`, in the order of the clients.

    The history is a function of the rows of `Run.clients`, so a resumed run has the
    same history as an uninterrupted one. It stores one small record per client that has
    been in a cohort.

    Args:
      clients: the clients' data.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"x": [1, 2]}, "bob": {"x": [3]}})
      >>> history = ClientHistory(clients)
      >>> history.add([{"round": 1, "client_id": "ann", "loss": 0.5, "reason": ""}])
      >>> history["ann"].last_loss, history["ann"].times_sampled, history["bob"].last_loss
      (0.5, 1, None)
    """

    def __init__(self, clients: ClientData):
        self._clients = clients
        self._seen: dict[str, ClientStats] = {}  # without the number of examples

    def __getitem__(self, client_id: str) -> ClientStats:
        """Returns what is known about one client."""
        if client_id not in self._clients:
            raise KeyError(client_id)
        seen = self._seen.get(client_id, ClientStats(client_id, 0))
        return seen._replace(num_examples=self._clients.num_examples(client_id))

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._clients

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients.client_ids)

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows of `Run.clients`, in the order of the rounds."""
        for row in rows:
            client_id, loss = row["client_id"], row["loss"]
            seen = self._seen.get(client_id, ClientStats(client_id, 0))
            self._seen[client_id] = seen._replace(
                last_loss=seen.last_loss if loss is None or not math.isfinite(loss) else loss,
                last_round=row["round"],
                last_reason=row["reason"],
                times_sampled=seen.times_sampled + 1,
            )
