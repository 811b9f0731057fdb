"""How much each client counts in the mean: the argument `client_weighting` of the algorithms."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fedlab import _checks, ops
from fedlab.clients.client_stats import ClientStats
from fedlab.ops import Tensor


class ByClient:
    """A `client_weighting` that depends on a client's history; see `by_client`.

    Attributes:
      name: "by_client".
      settings: the arguments, part of the run's identity.
      function: `ClientStats` -> number.
    """

    name = "by_client"

    def __init__(self, function: Callable[[ClientStats], float]) -> None:
        if not callable(function):
            raise _checks.type_error("function", function, "a function of ClientStats")
        self.function = function
        self.settings = {"function": function}

    def __repr__(self) -> str:
        return f"by_client({getattr(self.function, '__name__', type(self.function).__name__)})"


Weighting = str | Callable[[Any], Tensor] | ByClient

WEIGHTINGS = {
    "num_examples": lambda counts: counts.num_examples,
    "num_tokens": lambda counts: counts.num_tokens,
    "uniform": lambda counts: ops.ones_like(counts.num_examples),
}


def by_client(function: Callable[[ClientStats], float]) -> ByClient:
    """A `client_weighting` that can use a client's id, size, last loss and participation.

    Args:
      function: a pure function of a `fedlab.clients.ClientStats` that returns a finite number of
        at least 0. It is called once for each client of a cohort, before the round. In its first
        round a client has no loss.

    Returns:
      A `ByClient` to pass as `client_weighting`. The engine "tff", private aggregators and
      `fed_recon` do not support it.

    Example: clients are weighted by their loss, and by 1 in their first round.
      >>> from fedlab.algorithms import by_client, fed_avg
      >>> def last_loss(client):
      ...     return 1.0 if client.last_loss is None else client.last_loss
      >>> fed_avg(client_weighting=by_client(last_loss)).settings["client_weighting"].name
      'by_client'
    """
    return ByClient(function)


def get(weighting: Weighting) -> Callable[[Any], Tensor]:
    """The function `Counts` -> float32 scalar for a `client_weighting`.

    Raises:
      ValueError: the name is unknown.
    """
    if isinstance(weighting, ByClient):
        return lambda counts: counts.client_weight
    if callable(weighting):
        return weighting
    if not isinstance(weighting, str) or weighting not in WEIGHTINGS:
        names = ", ".join(map(repr, WEIGHTINGS))
        raise _checks.value_error(
            "client_weighting",
            weighting,
            f"{names}, a function of Counts, or fedlab.algorithms.by_client(...)",
        )
    return WEIGHTINGS[weighting]


def weigh_of(weighting: Weighting) -> Callable[[ClientStats], float] | None:
    """The value of `Algorithm.weigh` for a `client_weighting`."""
    return weighting.function if isinstance(weighting, ByClient) else None


def client_weight(weigh: Callable[[ClientStats], float], client: ClientStats) -> float:
    """The weight that `Algorithm.weigh` gives a client, rounded to float32.

    Raises:
      ValueError: it is not a finite number of at least 0.
    """
    weight = weigh(client)
    with np.errstate(over="ignore"):
        if not _checks.is_number(weight) or not (weight >= 0 and math.isfinite(np.float32(weight))):
            raise _checks.value_error(
                f"client_weighting of client {client.client_id!r}",
                weight,
                "a finite number of at least 0",
            )
    return float(np.float32(weight))
