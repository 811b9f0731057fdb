"""What a run knows of each client, for cohort samplers and client weights that depend on it."""

import collections.abc
import math
from typing import NamedTuple


class ClientStats(NamedTuple):
    """What is known of one client before a round.

    Attributes:
      client_id: str.
      num_examples: int, the rows of its data.
      last_loss: float, its mean training loss in the last round that it has a finite one of, or None.
      last_round: int, the last round whose cohort it was in, or None.
      last_reason: why its update did not count in that round, as `reason` in `Run.clients`: "not finite", "dropout", "deadline", or
        empty where it counted. None without such a round.
      times_sampled: int, how many cohorts it has been in.
    """

    client_id: str
    num_examples: int
    last_loss: float | None = None
    last_round: int | None = None
    last_reason: str | None = None
    times_sampled: int = 0


class ClientHistory(collections.abc.Mapping):
    """Client id -> `ClientStats`, in the order of the clients.

    It is a function of the rows in `Run.clients`, so that a run that resumes knows what it knew before. It keeps one small record for each
    client that has been in a cohort.

    Args:
      clients: a `ClientData`.

    Example:
      >>> from fedlab.clients import ClientData
      >>> history = ClientHistory(ClientData.from_dict({"ann": {"x": [1, 2]}, "bob": {"x": [3]}}))
      >>> history.add([{"round": 1, "client_id": "ann", "loss": 0.5, "reason": ""}])
      >>> history["ann"].last_loss, history["ann"].times_sampled, history["bob"].last_loss
      (0.5, 1, None)
    """

    def __init__(self, clients):
        self._clients = clients
        self._seen = {}  # client id -> ClientStats without the number of examples

    def __getitem__(self, client_id):
        if client_id not in self._clients:
            raise KeyError(client_id)
        seen = self._seen.get(client_id, ClientStats(client_id, 0))
        return seen._replace(num_examples=self._clients.num_examples(client_id))

    def __contains__(self, client_id):
        return client_id in self._clients

    def __iter__(self):
        return iter(self._clients.client_ids)

    def __len__(self):
        return len(self._clients)

    def add(self, rows):
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
