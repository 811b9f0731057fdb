"""Cohort samplers: which clients take part in a round.

A sampler is a function `(client_ids, round_num, seed) -> cohort` without a state: a list of distinct client ids, the same whenever it is
asked. Most samplers here are `functools.partial` objects, so that their settings can be read and recorded.

An `Adaptive` sampler also uses what the run knows of the clients, such as their last losses: `(clients, round_num, seed) -> cohort`, where
`clients` is a mapping client id -> `ClientStats`. That is a function of the rounds before, so that resumed runs draw the same cohorts.
"""

import collections.abc
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding


def uniform(clients_per_round):
    """Every round draws `clients_per_round` distinct clients, each as likely as any other (McMahan et al. 2017, Algorithm 1).

    Raises:
      ValueError: when sampling, where the number is not between 1 and the number of clients.
    """
    return functools.partial(_uniform, clients_per_round=clients_per_round)


def _uniform(client_ids, round_num, seed, *, clients_per_round):
    _check_number(clients_per_round, len(client_ids))
    return _draw(client_ids, round_num, seed, clients_per_round)


def weighted(clients_per_round, weights):
    """Every round draws `clients_per_round` distinct clients, one after the other, each as likely as its weight among those left.

    Args:
      clients_per_round: 1 or more; there must be so many clients of a weight above 0.
      weights: client id -> a number of 0 or more, such as its number of examples.

    Example:
      >>> weighted(2, {"a": 1, "b": 0, "c": 3})(["a", "b", "c"], round_num=1, seed=0)
      ['c', 'a']
    """
    if not isinstance(weights, collections.abc.Mapping):
        raise TypeError(
            f"weights is {weights!r:.60}; allowed: a dict, client id -> a number of 0 or more."
        )
    return functools.partial(_weighted, clients_per_round=clients_per_round, weights=dict(weights))


def _weighted(client_ids, round_num, seed, *, clients_per_round, weights):
    missing = [client_id for client_id in client_ids if client_id not in weights]
    if missing:
        raise ValueError(
            f"the weights lack clients {missing[:3]}; allowed: a weight for each client."
        )
    wrong = [
        client_id
        for client_id in client_ids
        if not (_checks.is_number(weights[client_id]) and 0 <= weights[client_id] < np.inf)
    ]
    if wrong:
        raise ValueError(
            f"the weight of client {wrong[0]!r} is {weights[wrong[0]]!r}; allowed: a number of 0 or more."
        )
    values = np.array([weights[client_id] for client_id in client_ids], np.float64)
    _check_number(clients_per_round, int((values > 0).sum()), "clients of a weight above 0")
    return _draw(client_ids, round_num, seed, clients_per_round, p=values / values.sum())


def poisson(clients_per_round):
    """Every client takes part in a round with probability `clients_per_round` / number of clients, whatever the others do.

    So a round has `clients_per_round` clients on average; this is the sampling that differential privacy is cheapest for. A round may
    have none, with a probability of about exp(-clients_per_round): that is an error of the run.

    Args:
      clients_per_round: a number above 0, at most the number of clients.
    """
    return functools.partial(_poisson, clients_per_round=clients_per_round)


def _poisson(client_ids, round_num, seed, *, clients_per_round):
    if not _checks.is_number(clients_per_round) or not 0 < clients_per_round <= len(client_ids):
        raise ValueError(
            f"clients_per_round is {clients_per_round!r}; allowed: above 0, to {len(client_ids)}, the number of clients."
        )
    drawn = (
        seeding.generator(seed, "cohort", round_num).random(len(client_ids)) * len(client_ids)
        < clients_per_round
    )
    return [client_ids[i] for i in np.flatnonzero(drawn)]


def fixed(cohort):
    """The same clients in every round, in the order given.

    Raises:
      ValueError: where the list is empty, names a client twice, or, when sampling, names one that does not exist.
    """
    if isinstance(cohort, (str, bytes)) or not isinstance(cohort, collections.abc.Iterable):
        raise TypeError(
            f"the fixed cohort is {cohort!r}; allowed: a list of one or more distinct client ids."
        )
    cohort = list(cohort)
    if not cohort or len(set(cohort)) < len(cohort):
        raise ValueError(
            f"the fixed cohort is {cohort}; allowed: a list of one or more distinct client ids."
        )
    return functools.partial(_fixed, cohort=cohort)


def _fixed(client_ids, round_num, seed, *, cohort):
    known = set(client_ids)
    unknown = [client_id for client_id in cohort if client_id not in known]
    if unknown:
        raise ValueError(
            f"unknown clients {unknown[:3]} in the fixed cohort; allowed: those that `client_ids` of the data lists."
        )
    return list(cohort)


class Adaptive(NamedTuple):
    """A sampler that uses what a run knows of the clients: see `adaptive`.

    Attributes:
      name: str.
      settings: name -> value, for the run's identity.
      sample: `(clients, round_num, seed) -> cohort`, with `clients` a mapping client id -> `ClientStats`.
    """

    name: str
    settings: dict
    sample: Callable


def adaptive(sample):
    """A sampler of your own that can use each client's size, last loss and how often it has been in a cohort.

    Args:
      sample: a pure function `(clients, round_num, seed) -> list of client ids`. `clients` is a mapping, client id -> `ClientStats`, of all
        clients. In the first round they have no loss.

    Returns:
      An `Adaptive`, for `cohort` of `fedlab.simulate`.

    Example: the two clients that have been in the fewest cohorts.
      >>> rarest = adaptive(lambda clients, round_num, seed: sorted(clients, key=lambda c: clients[c].times_sampled)[:2])
      >>> rarest.name
      'adaptive'
    """
    if not callable(sample):
        raise TypeError(
            f"sample is {_checks.kind(sample)}; allowed: a function (clients, round_num, seed) -> list of client ids."
        )
    return Adaptive("adaptive", {"sample": sample}, sample)


def highest_loss(clients_per_round, candidates):
    """Every round takes the clients with the highest loss among some candidates that are drawn by size.

    Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice Selection Strategies
    Yae Jee Cho, Jianyu Wang, Gauri Joshi. 2020. https://arxiv.org/abs/2010.01243

        A = `candidates` distinct clients, one after the other, each as likely as its number of examples among those left
        cohort = the `clients_per_round` clients of A with the highest loss

    The loss is the mean of the client's last training, as in the paper's variant pi_rpow-d, which costs no evaluation. Clients without a
    known loss come first. Departure: clients whose last update was not finite, or who had nothing to train on, come last. Otherwise a
    client with NaN in its data would be chosen whenever it is a candidate.

    Args:
      clients_per_round: 1 or more.
      candidates: d in the paper: from `clients_per_round`, which is sampling by size, to the number of clients with examples.

    Returns:
      An `Adaptive`, for `cohort` of `fedlab.simulate`.

    Raises:
      ValueError: a number is out of range.

    Example: all clients are candidates.
      >>> from fedlab.clients import ClientStats
      >>> known = {"a": ClientStats("a", 5, last_loss=0.1), "b": ClientStats("b", 5, last_loss=2.0), "c": ClientStats("c", 5)}
      >>> highest_loss(2, candidates=3).sample(known, round_num=4, seed=0)
      ['c', 'b']
    """
    _checks.check_int("clients_per_round", clients_per_round)
    _checks.check_int("candidates", candidates, clients_per_round)
    settings = {"clients_per_round": clients_per_round, "candidates": candidates}
    return Adaptive("highest_loss", settings, functools.partial(_highest_loss, **settings))


def _highest_loss(clients, round_num, seed, *, clients_per_round, candidates):
    known = list(clients.values())
    sizes = np.array([client.num_examples for client in known], np.float64)
    most = int((sizes > 0).sum())
    if candidates > most:
        raise ValueError(
            f"candidates is {candidates}; allowed: {clients_per_round} to {most}, the number of clients with examples."
        )
    drawn = _draw(known, round_num, seed, candidates, p=sizes / sizes.sum())
    return [
        client.client_id
        for client in sorted(drawn, key=_last_loss, reverse=True)[:clients_per_round]
    ]


def _last_loss(client):
    without_result = client.last_reason == "" and client.last_loss is None
    if client.last_reason == "not finite" or without_result:
        return -math.inf
    return math.inf if client.last_loss is None else client.last_loss


def _check_number(clients_per_round, most, what="clients"):
    _checks.check_int("clients_per_round", clients_per_round, 1, most, f"the number of {what}")


def _draw(client_ids, round_num, seed, number, p=None):
    chosen = seeding.generator(seed, "cohort", round_num).choice(
        len(client_ids), number, replace=False, p=p
    )
    return [client_ids[i] for i in chosen]
