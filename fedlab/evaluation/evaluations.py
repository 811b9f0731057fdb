"""All evaluations of a simulation."""

import collections.abc
from collections.abc import Callable, Collection, Iterable
from typing import Any

from fedlab import _checks
from fedlab.clients import ClientData
from fedlab.engines.engine import Setting
from fedlab.evaluation import central, function, per_client, personalized
from fedlab.evaluation.evaluation import Evaluation, Global
from fedlab.evaluation.per_client import PerClient


class Evaluations:
    """The evaluations that `fedlab.simulate` runs.

    Args:
      evaluate_on, evaluate_every, evaluation_batch_size: as in `fedlab.simulate`.
      setting: the run's `Setting`.
      rounds: the number of rounds; the last one is always evaluated.
      training_ids: the clients that may train.

    Raises:
      TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        evaluate_on: Any,
        evaluate_every: int,
        evaluation_batch_size: int,
        setting: Setting,
        rounds: int,
        training_ids: Collection[str],
    ):
        _checks.check_int("evaluate_every", evaluate_every)
        _checks.check_int("evaluation_batch_size", evaluation_batch_size)
        self._evaluations = [
            _evaluation(name, data, setting, evaluation_batch_size)
            for name, data in _by_name(evaluate_on).items()
        ]
        self._clients = {
            name: _counts(data, training_ids) for name, data in _by_name(evaluate_on).items()
        }
        self._every, self._batch_size, self._rounds = evaluate_every, evaluation_batch_size, rounds

    def settings(self, with_data: bool) -> dict[str, Any]:
        """What they contribute to a run's identity; fingerprints of the data only on request."""
        each = self._evaluations
        settings: dict[str, Any] = {
            "evaluation_examples": {e.name: e.settings["examples"] for e in each}
        }
        if with_data and each:
            settings["evaluation_data"] = {e.name: e.settings["data"]() for e in each}
        if each:
            settings["evaluation_clients"] = {
                name: count() for name, count in self._clients.items() if count
            }
            settings["evaluate_every"] = self._every
            settings["evaluation_batch_size"] = self._batch_size
        return settings

    def is_due(self, round_num: int) -> bool:
        """Whether all evaluations run after this round."""
        return round_num % self._every == 0 or round_num == self._rounds

    def run(
        self,
        model: Callable[[], Global],
        round_num: int,
        taken: Iterable[str],
        everything: bool | None = None,
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Runs the evaluations that are due after a round.

        Args:
          model: () -> the global model.
          round_num: the round.
          taken: names of other metrics of the run.
          everything: whether all of them run; by default if `is_due`.

        Returns:
          ({name}_{metric} -> number, rows of the table `evaluations`).

        Raises:
          ValueError: two metrics have the same name.
        """
        due = self.is_due(round_num) if everything is None else everything
        selected = [each for each in self._evaluations if due or each.every_round]
        if not selected:
            return {}, []
        row, rows, evaluated, taken = {}, [], model(), {*taken}
        for each in selected:
            metrics, more_rows = each.run(evaluated)
            columns = {f"{each.name}_{metric}": value for metric, value in metrics.items()}
            if twice := columns.keys() & (taken | row.keys()):
                raise ValueError(
                    f"evaluate_on[{each.name!r}] has a metric {min(twice)!r}: expected a name that "
                    "no other column has; rename the set"
                )
            row |= columns
            rows += more_rows
        return row, rows


def _by_name(evaluate_on):
    if evaluate_on is None:
        return {}
    if isinstance(evaluate_on, (ClientData, tuple)) or callable(evaluate_on):
        return {"test": evaluate_on}
    if not isinstance(evaluate_on, collections.abc.Mapping):
        raise TypeError(
            f"evaluate_on={evaluate_on!r:.60}: expected a ClientData, a pair of them, "
            "fedlab.per_client(...), a function, or a dict of these by name"
        )
    for name in evaluate_on:
        if not isinstance(name, str) or not name or name == "train":
            raise ValueError(
                f"evaluate_on has the key {name!r}: expected a text other than 'train', the prefix "
                "of the training metrics"
            )
    return evaluate_on


def _counts(data, training_ids) -> Callable[[], dict[str, int]] | None:
    """Returns a function that counts the clients of a set, and those of them that may train."""
    test = data.test if isinstance(data, PerClient) else data
    test = test[1] if isinstance(test, tuple) and len(test) == 2 else test
    if not isinstance(test, ClientData):
        return None
    return lambda: {
        "clients": len(test),
        "training": sum(client_id in training_ids for client_id in test.client_ids),
    }


def _evaluation(name, data, setting, batch_size) -> Evaluation:
    if isinstance(data, PerClient):
        return per_client.evaluation(name, data, setting, batch_size)
    if isinstance(data, tuple):
        if not (len(data) == 2 and all(isinstance(part, ClientData) for part in data)):
            given = ", ".join(type(part).__name__ for part in data) or "nothing"
            raise TypeError(
                f"evaluate_on[{name!r}] is a tuple of {given}: expected a pair (local, test) of "
                "ClientData"
            )
        return personalized.evaluation(name, *data, setting, batch_size)
    if callable(data):
        return function.evaluation(name, data)
    return central.evaluation(name, data, setting.model, batch_size)
