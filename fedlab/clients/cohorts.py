"""The cohorts of a run: who is asked in each round, and what is known of the clients."""

from fedlab.clients import sampling
from fedlab.clients.availability import fare
from fedlab.clients.client_stats import ClientHistory


class Cohorts:
    """Draws the cohorts of a run.

    Args:
      clients: a `ClientData`.
      clients_per_round, cohort, seed, engine: arguments of `fedlab.simulate`.
      watched: whether others than the sampler need to know `history`.

    Attributes:
      sampler: what draws them.
      history: the `ClientHistory` of the rounds so far; without any where nobody needs it.

    Raises:
      TypeError, ValueError: the first round's cohort is impossible.
    """

    def __init__(self, clients, clients_per_round, cohort, seed, engine, watched=False):
        self.sampler = _sampler(clients_per_round, cohort)
        self._adaptive = isinstance(self.sampler, sampling.Adaptive)
        self._watched = watched or self._adaptive
        if engine == "tff" and self._adaptive:
            raise ValueError(
                f"cohort is {self.sampler.name}; engine 'tff' does not tell a client's loss: use engine 'local'."
            )
        self.history = ClientHistory(clients)
        self._clients, self._seed = clients, seed
        self._sample(1)

    def draw(self, round_num, conditions):
        """Returns the cohort of a round, a list of client ids, and those whose updates do not arrive: client id -> reason."""
        cohort = self._sample(round_num)
        if not cohort:
            raise ValueError(
                f"the cohort of round {round_num} is empty: no client was drawn. Raise clients_per_round."
            )
        if len(set(cohort)) < len(cohort):
            raise ValueError(
                f"the cohort of round {round_num} names a client twice; allowed: a list of distinct client ids."
            )
        reasons = (
            {
                client_id: fare(conditions, client_id, round_num, self._seed).lost
                for client_id in cohort
            }
            if conditions
            else {}
        )
        return cohort, {client_id: reason for client_id, reason in reasons.items() if reason}

    def resume(self, rows):
        """Learns from the rows of `Run.clients` of the rounds that are done."""
        if self._watched:
            self.history.add(rows)

    def add(self, round_num, rows):
        """Learns from a round.

        Args:
          round_num: int.
          rows: what `rows_of` returned.
        """
        self.resume({"round": round_num, **row} for row in rows)

    def _sample(self, round_num):
        if self._adaptive:
            cohort = self.sampler.sample(self.history, round_num, self._seed)
        else:
            cohort = self.sampler(self._clients.client_ids, round_num, self._seed)
        if not isinstance(cohort, (list, tuple)):
            raise TypeError(
                f"the sampler gave {cohort!r:.60} for round {round_num}; allowed: a list of client ids."
            )
        if unknown := [client_id for client_id in cohort if client_id not in self._clients]:
            raise ValueError(
                f"the sampler gave the unknown clients {unknown[:3]} for round {round_num}; allowed: some of those it is given."
            )
        return cohort


def _sampler(clients_per_round, cohort):
    if (clients_per_round is None) == (cohort is None):
        raise ValueError(
            "give either clients_per_round (a number of random clients) or cohort (client ids, or a sampler)."
        )
    if clients_per_round is not None:
        return sampling.uniform(clients_per_round)
    return (
        cohort
        if callable(cohort) or isinstance(cohort, sampling.Adaptive)
        else sampling.fixed(cohort)
    )


_NOTHING = {
    "num_examples": 0,
    "num_tokens": 0,
    "num_steps": 0,
    "weight": 0.0,
    "loss": None,
    "dropped": True,
    "metrics": {},
}


def rows_of(cohort, lost, finished):
    """The rows of all clients that were asked, in cohort order, with the reason why one is dropped."""
    rows = {
        row["client_id"]: {**row, "reason": "not finite" if row["dropped"] else ""}
        for row in finished
    }
    rows |= {
        client_id: {"client_id": client_id, **_NOTHING, "reason": reason}
        for client_id, reason in lost.items()
    }
    return [rows[client_id] for client_id in cohort]
