"""The cohorts of a run: which clients take part in each round, and which of them are dropped."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedlab import _checks
from fedlab.clients import sampling
from fedlab.clients.availability import Condition, participation
from fedlab.clients.client_data import ClientData
from fedlab.clients.client_stats import ClientHistory


class Cohorts:
    """Samples the cohorts of a run.

    Args:
      clients: the clients' data.
      clients_per_round, cohort, seed, engine: arguments of `fedlab.simulate`.
      watched: whether anything besides the sampler needs `history`.

    Attributes:
      sampler: the cohort sampler.
      candidates: the ids of the clients that may train.
      history: the `ClientHistory` of the rounds so far. It stays empty if nothing needs
        it.

    Raises:
      TypeError, ValueError: the first round's cohort cannot be sampled.
    """

    def __init__(
        self,
        clients: ClientData,
        clients_per_round: int | None,
        cohort: Any,
        seed: int,
        engine: str,
        watched: bool = False,
    ):
        self.sampler = _sampler(clients_per_round, cohort)
        self.candidates = set(sampling.fixed_cohort(self.sampler) or ()) or clients
        adaptive = isinstance(self.sampler, sampling.Adaptive)
        self._watched = watched or adaptive
        if engine == "tff" and adaptive:
            raise ValueError(
                f"cohort={self.sampler.name}: expected a sampler that does not use the clients' "
                "losses, which engine 'tff' does not report; use engine 'local'"
            )
        self.history = ClientHistory(clients)
        self._clients, self._seed = clients, seed
        self._sample(1)

    def draw(
        self, round_num: int, conditions: Condition | None
    ) -> tuple[Sequence[str], dict[str, str]]:
        """Samples the cohort of a round.

        Returns:
          (cohort, dropped): the client ids, and client id -> reason of the dropped
          clients.
        """
        cohort = self._sample(round_num)
        if not cohort and not sampling.may_be_empty(self.sampler):
            raise ValueError(
                f"the cohort of round {round_num} is empty: expected at least one client; "
                "increase clients_per_round"
            )
        if len(set(cohort)) < len(cohort):
            raise ValueError(
                f"the cohort of round {round_num} contains a client twice: "
                "expected a list of distinct client ids"
            )
        if not conditions:
            return cohort, {}
        parts = {id_: participation(conditions, id_, round_num, self._seed) for id_ in cohort}
        return cohort, {id_: part.drop_reason for id_, part in parts.items() if part.drop_reason}

    def resume(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds the rows of `Run.clients` of the rounds that are finished to the history."""
        if self._watched:
            self.history.add(rows)

    def add(self, round_num: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds one round to the history.

        Args:
          round_num: the round.
          rows: the result of `rows_of`.
        """
        self.resume({"round": round_num, **row} for row in rows)

    def _sample(self, round_num: int) -> Sequence[str]:
        if isinstance(self.sampler, sampling.Adaptive):
            cohort = self.sampler.sample(self.history, round_num, self._seed)
        else:
            cohort = self.sampler(self._clients.client_ids, round_num, self._seed)
        name = f"the sampler's cohort for round {round_num}"
        if not isinstance(cohort, (list, tuple)):
            raise _checks.type_error(name, cohort, "a list of client ids")
        if unknown := [client_id for client_id in cohort if client_id not in self._clients]:
            raise ValueError(
                f"{name} has the unknown clients {unknown[:3]}: "
                "expected ids from those that the sampler receives"
            )
        return cohort


def _sampler(clients_per_round: int | None, cohort: Any) -> Any:
    if (clients_per_round is None) == (cohort is None):
        raise ValueError(
            f"clients_per_round={clients_per_round!r}, cohort={cohort!r:.60}: expected either "
            "clients_per_round (a number of random clients) or cohort (client ids or a sampler)"
        )
    if clients_per_round is not None:
        return sampling.uniform(clients_per_round)
    if callable(cohort) or isinstance(cohort, sampling.Adaptive):
        return cohort
    return sampling.fixed(cohort)


_DROPPED: dict[str, Any] = {
    "num_examples": 0,
    "num_tokens": 0,
    "num_steps": 0,
    "weight": 0.0,
    "loss": None,
    "dropped": True,
    "metrics": {},
}


def rows_of(
    cohort: Iterable[str],
    dropped: Mapping[str, str],
    finished: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Returns the rows of `Run.clients` of one round, in cohort order.

    Args:
      cohort: client ids.
      dropped: client id -> reason.
      finished: the engine's rows for the other clients.
    """
    rows = {
        row["client_id"]: {**row, "reason": "not finite" if row["dropped"] else ""}
        for row in finished
    }
    for client_id, reason in dropped.items():
        rows[client_id] = {"client_id": client_id, **_DROPPED, "reason": reason}
    return [rows[client_id] for client_id in cohort]
