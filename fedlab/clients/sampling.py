"""Cohort samplers: which clients take part in a round.

A sampler is a function `(client_ids, round_num, seed) -> cohort` without state, where
the cohort is a list of distinct client ids. It returns the same cohort for the same
arguments. Most samplers here are `functools.partial` objects, so that their settings
can be recorded.

An `Adaptive` sampler also uses what the run knows about the clients, such as their last
losses: `(clients, round_num, seed) -> cohort`, where `clients` is a mapping client id
-> `ClientStats`. The mapping is a function of the earlier rounds, so that resumed runs
sample the same cohorts.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients import client_ids as ids_lib
from fedlab.clients import seeding
from fedlab.clients.client_stats import ClientStats

Sampler = Callable[[Sequence[str], int, int], list[str]]


def uniform(clients_per_round: int) -> Sampler:
    """Samples distinct clients with equal probability.

    McMahan et al. 2017, Algorithm 1.

    Raises:
      ValueError: when sampling, if the number is not between 1 and the number of
        clients.
    """
    return functools.partial(_uniform, clients_per_round=clients_per_round)


def _uniform(
    client_ids: Sequence[str], round_num: int, seed: int, *, clients_per_round: int
) -> list[str]:
    _check_cohort_size(clients_per_round, len(client_ids))
    return _draw(client_ids, round_num, seed, clients_per_round)


def weighted(clients_per_round: int, weights: Mapping[str, float]) -> Sampler:
    """Samples distinct clients one after the other, with probabilities proportional to weights.

    Args:
      clients_per_round: 1 or more, at most the number of clients with a weight above 0.
      weights: client id -> a number of 0 or more, such as its number of examples.

    Example:
      >>> weighted(2, {"a": 1, "b": 0, "c": 3})(["a", "b", "c"], round_num=1, seed=0)
      ['c', 'a']
    """
    if not isinstance(weights, Mapping):
        raise _checks.type_error("weights", weights, "a dict, client id -> a number of at least 0")
    return functools.partial(_weighted, clients_per_round=clients_per_round, weights=dict(weights))


def _weighted(
    client_ids: Sequence[str],
    round_num: int,
    seed: int,
    *,
    clients_per_round: int,
    weights: Mapping[str, float],
) -> list[str]:
    if missing := [client_id for client_id in client_ids if client_id not in weights]:
        raise ValueError(
            f"weights has no value for the clients {missing[:3]}: expected a weight for each client"
        )
    for client_id in client_ids:
        _checks.check_number(f"weights[{client_id!r}]", weights[client_id], 0)
    values = np.array([weights[client_id] for client_id in client_ids], np.float64)
    what = "clients with a weight above 0"
    _check_cohort_size(clients_per_round, int((values > 0).sum()), what)
    return _draw(client_ids, round_num, seed, clients_per_round, p=values / values.sum())


def poisson(clients_per_round: float) -> Sampler:
    """Samples each client independently, with probability `clients_per_round` / number of clients.

    A cohort has `clients_per_round` clients on average. Differential privacy costs
    least with this kind of sampling. A cohort is empty with a probability of about
    exp(-clients_per_round). The server's update of such a round has no client in it, but
    a private aggregator adds its noise.

    Args:
      clients_per_round: a number above 0, at most the number of clients.
    """
    return functools.partial(_poisson, clients_per_round=clients_per_round)


def _poisson(
    client_ids: Sequence[str], round_num: int, seed: int, *, clients_per_round: float
) -> list[str]:
    num_clients = len(client_ids)
    _checks.check_number(
        "clients_per_round",
        clients_per_round,
        maximum=num_clients,
        above=0,
        what="the number of clients",
    )
    draws = seeding.generator(seed, "cohort", round_num).random(num_clients)
    chosen = np.flatnonzero(draws * num_clients < clients_per_round).tolist()
    return [client_ids[i] for i in chosen]


def may_be_empty(sampler: Any) -> bool:
    """Whether the sampler draws cohorts without a client on purpose."""
    return getattr(sampler, "func", None) is _poisson


def fixed(cohort: Iterable[str]) -> Sampler:
    """Returns the same clients in every round, in the given order.

    Raises:
      ValueError: the list is empty or contains a client twice; or, when sampling, one
        of its clients does not exist.
    """
    expected = "a list of one or more distinct client ids"
    if isinstance(cohort, (str, bytes)) or not isinstance(cohort, Iterable):
        raise _checks.type_error("cohort", cohort, expected)
    cohort = list(cohort)
    if not cohort or len(set(cohort)) < len(cohort):
        raise _checks.value_error("cohort", cohort, expected)
    return functools.partial(_fixed, cohort=cohort)


def fixed_cohort(sampler: Any) -> list[str] | None:
    """Returns the clients of a sampler made by `fixed`, or None for another sampler."""
    is_fixed = isinstance(sampler, functools.partial) and sampler.func is _fixed
    return list(sampler.keywords["cohort"]) if is_fixed else None


def _fixed(client_ids: Sequence[str], round_num: int, seed: int, *, cohort: list[str]) -> list[str]:
    known = ids_lib.members(client_ids)
    if unknown := [client_id for client_id in cohort if client_id not in known]:
        raise ValueError(
            f"cohort has the unknown clients {unknown[:3]}: expected ids from the data's client_ids"
        )
    return list(cohort)


class Adaptive(NamedTuple):
    """A sampler that uses what a run knows about the clients; see `adaptive`.

    Attributes:
      name: the sampler's name.
      settings: name -> value, recorded with the run.
      sample: `(clients, round_num, seed) -> cohort`, where `clients` is a mapping
        client id -> `ClientStats`.
    """

    name: str
    settings: dict[str, Any]
    sample: Callable[[Mapping[str, ClientStats], int, int], list[str]]


def adaptive(sample: Callable[[Mapping[str, ClientStats], int, int], list[str]]) -> Adaptive:
    """Makes a sampler of a function that uses the clients' sizes, last losses or past cohorts.

    Args:
      sample: a pure function `(clients, round_num, seed) -> list of client ids`.
        `clients` is a mapping client id -> `ClientStats` of all clients. They have no
        loss in the first round.

    Returns:
      An `Adaptive`, for the argument `cohort` of `fedlab.simulate`.

    Example: the two clients that have been in the fewest cohorts.
      >>> def rarest(clients, round_num, seed):
      ...   return sorted(clients, key=lambda c: clients[c].times_sampled)[:2]
      >>> adaptive(rarest).name
      'adaptive'
    """
    if not callable(sample):
        expected = "a function (clients, round_num, seed) -> list of client ids"
        raise _checks.type_error("sample", sample, expected)
    return Adaptive("adaptive", {"sample": sample}, sample)


def highest_loss(clients_per_round: int, candidates: int) -> Adaptive:
    """Selects the clients with the highest loss among candidates that are sampled by size.

    Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice
    Selection Strategies. Yae Jee Cho, Jianyu Wang, Gauri Joshi. 2020.
    https://arxiv.org/abs/2010.01243

        A = `candidates` distinct clients, sampled one after the other with
        probabilities
            proportional to their numbers of examples
        cohort = the `clients_per_round` clients of A with the highest loss

    The loss is the mean over the client's last training, as in the paper's variant
    pi_rpow-d, which needs no evaluation. Clients without a known loss come first.
    Departure from the
    paper: clients whose last update was not finite, or who had nothing to train on,
      come
    last. Otherwise a client with NaN in its data would be selected whenever it is a
    candidate.

    Args:
      clients_per_round: 1 or more.
      candidates: d in the paper, from `clients_per_round` (which is sampling by size)
        to the number of clients with examples.

    Returns:
      An `Adaptive`, for the argument `cohort` of `fedlab.simulate`.

    Raises:
      ValueError: a number is out of range.

    Example: all clients are candidates.
      >>> losses = {"a": 0.1, "b": 2.0, "c": None}
      >>> known = {name: ClientStats(name, 5, last_loss=loss) for name, loss in losses.items()}
      >>> highest_loss(2, candidates=3).sample(known, round_num=4, seed=0)
      ['c', 'b']
    """
    _checks.check_int("clients_per_round", clients_per_round)
    _checks.check_int("candidates", candidates, clients_per_round)
    settings: dict[str, Any] = {"clients_per_round": clients_per_round, "candidates": candidates}
    return Adaptive("highest_loss", settings, functools.partial(_highest_loss, **settings))


def _highest_loss(
    clients: Mapping[str, ClientStats],
    round_num: int,
    seed: int,
    *,
    clients_per_round: int,
    candidates: int,
) -> list[str]:
    known = list(clients.values())
    sizes = np.array([client.num_examples for client in known], np.float64)
    most = int((sizes > 0).sum())
    what = "the number of clients with examples"
    _checks.check_int("candidates", candidates, clients_per_round, most, what)
    drawn = _draw(known, round_num, seed, candidates, p=sizes / sizes.sum())
    ranked = sorted(drawn, key=_last_loss, reverse=True)
    return [client.client_id for client in ranked[:clients_per_round]]


def _last_loss(client: ClientStats) -> float:
    without_result = client.last_reason == "" and client.last_loss is None
    if client.last_reason == "not finite" or without_result:
        return -math.inf
    return math.inf if client.last_loss is None else client.last_loss


def _check_cohort_size(clients_per_round: int, most: int, what: str = "clients") -> None:
    _checks.check_int("clients_per_round", clients_per_round, 1, most, f"the number of {what}")


def _draw(
    clients: Sequence[Any], round_num: int, seed: int, number: int, p: np.ndarray | None = None
) -> list[Any]:
    rng = seeding.generator(seed, "cohort", round_num)
    return [clients[i] for i in rng.choice(len(clients), number, replace=False, p=p)]
