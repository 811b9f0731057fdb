"""How much each client counts in the mean."""

import math

import numpy as np
import tensorflow as tf

from fedlab import _checks

WEIGHTINGS = {
    "num_examples": lambda counts: counts.num_examples,
    "num_tokens": lambda counts: counts.num_tokens,
    "uniform": lambda counts: tf.ones_like(counts.num_examples),
}


class ByClient:
    """A `client_weighting` that uses what a run knows of the client: see `by_client`.

    Attributes:
      name: str.
      settings: name -> value, for the run's identity.
      function: `ClientStats -> number`.
    """

    name = "by_client"

    def __init__(self, function):
        if not callable(function):
            raise TypeError(
                f"function is {_checks.kind(function)}; allowed: a function of fedlab.clients.ClientStats that gives a number."
            )
        self.function = function
        self.settings = {"function": function}

    def __repr__(self):
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"by_client({name})"


def by_client(function):
    """A `client_weighting` that can use a client's id, its size, its last loss and how often it has been in a cohort.

    Args:
      function: a pure function of a `fedlab.clients.ClientStats` that gives a finite number of 0 or more. It is called once for each client
        of a cohort, before the round. In its first round a client has no loss.

    Returns:
      A `ByClient`, for `client_weighting` of the algorithms. Engine "tff", private aggregators and `fed_recon` do not take it.

    Example: clients count by their loss, in their first round by 1.
      >>> from fedlab.algorithms import by_client, fed_avg
      >>> algorithm = fed_avg(client_weighting=by_client(lambda client: 1.0 if client.last_loss is None else client.last_loss))
      >>> algorithm.settings["client_weighting"].name
      'by_client'
    """
    return ByClient(function)


def get(weighting):
    """The function `Counts -> float32 scalar` for a name of `WEIGHTINGS`, or of a `ByClient`; a function is returned as it is.

    Raises:
      ValueError: for an unknown name.
    """
    if isinstance(weighting, ByClient):
        return lambda counts: counts.client_weight
    if callable(weighting):
        return weighting
    if not isinstance(weighting, str) or weighting not in WEIGHTINGS:
        raise ValueError(
            f"client_weighting is {weighting!r}; allowed: {', '.join(WEIGHTINGS)}, a function of the counts, or "
            "fedlab.algorithms.by_client(...)."
        )
    return WEIGHTINGS[weighting]


def weigh_of(weighting):
    """What `Algorithm.weigh` is for a `client_weighting`."""
    return weighting.function if isinstance(weighting, ByClient) else None


def client_weight(weigh, client):
    """The weight that `Algorithm.weigh` gives a client, checked: a float that float32 holds.

    Args:
      weigh: a function of `ClientStats`.
      client: the client's `ClientStats`.

    Raises:
      ValueError: the weight is not a finite number of 0 or more.
    """
    weight = weigh(client)
    with np.errstate(over="ignore"):
        if not _checks.is_number(weight) or not (weight >= 0 and math.isfinite(np.float32(weight))):
            raise ValueError(
                f"client_weighting gives client {client.client_id!r} the weight {weight!r:.60}; allowed: a finite number of 0 or more."
            )
    return float(np.float32(weight))
