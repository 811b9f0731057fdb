"""The guarantee of a differentially private result, and the epsilon that it has spent."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fedlab import _checks, _extras

SAMPLINGS = ("poisson", "uniform")


class Privacy(NamedTuple):
    """A guarantee.

    Each round sums the deltas of clients drawn by `sampling`, each with a norm of at most C, and
    adds Gaussian noise with a standard deviation of z C.

    Attributes:
      noise_multiplier: z, at least 0.
      clients_per_round: the cohort size, with Poisson sampling its expectation.
      num_clients: the number of clients that cohorts are drawn from.
      delta: the probability with which epsilon may be exceeded.
      sampling: with "poisson", each client participates with probability
        clients_per_round / num_clients, and the guarantee hides whether a client exists. With
        "uniform", exactly clients_per_round distinct clients participate, and the guarantee hides
        whether a client is replaced by another.
    """

    noise_multiplier: float
    clients_per_round: float
    num_clients: int
    delta: float
    sampling: str


def metrics(privacy: Privacy, rounds: int) -> dict[str, float]:
    """The metrics of a guarantee after some rounds, name -> float.

    `epsilon` is what the rounds have spent; see `epsilon`. With "uniform" sampling there is also
    `epsilon_poisson`, which Poisson sampling of as many clients would have spent. It hides
    whether a client exists, so it is a comparison, not a guarantee of this run. Without
    dp-accounting, there are no metrics, and a warning says so once.
    """
    if package := _extras.missing("dp_accounting"):
        _extras.skipped("epsilon, the privacy spent, is not computed", package)
        return {}
    spent = {"epsilon": epsilon(privacy, rounds)}
    if privacy.sampling == "uniform":
        spent["epsilon_poisson"] = epsilon(privacy._replace(sampling="poisson"), rounds)
    return spent


def epsilon(privacy: Privacy, rounds: int) -> float:
    """The epsilon that `rounds` rounds have spent at `privacy.delta`, infinite without noise.

    With "poisson" it is computed by the privacy loss distribution, which is tight up to rounding
    upwards (Koskela et al. 2020; Doroshenko et al. 2022), for neighbouring data sets that differ
    in whether one client exists. With "uniform" it is computed by Rényi differential privacy, for
    neighbouring data sets with another client in one client's place. The latter is several times
    as large for the same noise, so prefer "poisson".

    Args:
      privacy: a `Privacy`.
      rounds: the number of rounds, at least 0.

    Returns:
      A number of at least 0.

    Raises:
      ModuleNotFoundError: dp-accounting is not installed.

    Example: 120 of 3,383 clients in each of 100 rounds.
      >>> round(epsilon(Privacy(1.2, 120, 3383, 1e-5, "poisson"), 100), 2)
      1.71
      >>> round(epsilon(Privacy(1.2, 120, 3383, 1e-5, "uniform"), 100), 2)
      14.09
    """
    if not rounds:
        return 0.0
    if not privacy.noise_multiplier:
        return float("inf")
    if package := _extras.missing("dp_accounting"):
        raise _extras.error("epsilon needs", package)
    return _spent(privacy, rounds)


@functools.lru_cache(maxsize=64)
def _spent(privacy: Privacy, rounds: int) -> float:
    from dp_accounting import rdp

    orders, one_round = _divergences(*privacy[:3], privacy.sampling)
    by_divergences = float(rdp.compute_epsilon(orders, rounds * one_round, privacy.delta)[0])
    if privacy.sampling == "uniform":
        return by_divergences
    losses = _losses(*privacy[:3]).self_compose(rounds)
    # Both are upper bounds. With little noise or few clients, rounding can make `losses` larger.
    return min(by_divergences, float(losses.get_epsilon_for_delta(privacy.delta)))


@functools.lru_cache(maxsize=16)
def _losses(noise_multiplier: float, clients_per_round: float, num_clients: int):
    """The privacy loss distribution of one round with Poisson sampling."""
    from dp_accounting.pld import privacy_loss_distribution

    # Little noise means large losses, for which steps of 1e-3 would take minutes.
    step = 1e-3 * max(1.0, (0.5 / noise_multiplier) ** 2)
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        sampling_prob=clients_per_round / num_clients,
        value_discretization_interval=step,
        use_connect_dots=True,
    )


@functools.lru_cache(maxsize=16)
def _divergences(
    noise_multiplier: float, clients_per_round: float, num_clients: int, sampling: str
) -> tuple[Any, Any]:
    """Rényi divergences of one round, (orders, divergences)."""
    import dp_accounting
    from dp_accounting import rdp

    if sampling == "poisson":
        accountant = rdp.RdpAccountant()
        gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
        event = dp_accounting.PoissonSampledDpEvent(clients_per_round / num_clients, gaussian)
    else:
        # A replaced client changes the sum by up to 2 C. The accountant expects the noise as a
        # multiple of that.
        accountant = rdp.RdpAccountant(
            neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE
        )
        gaussian = dp_accounting.GaussianDpEvent(noise_multiplier / 2)
        event = dp_accounting.SampledWithoutReplacementDpEvent(
            num_clients, int(clients_per_round), gaussian
        )
    with _without_orders_left_out():
        accountant.compose(event)
    return accountant.orders, accountant.rdp


@contextlib.contextmanager
def _without_orders_left_out() -> Iterator[None]:
    """Drops the warnings of orders that the accountant leaves out: the bound holds anyway."""

    def is_other(record: logging.LogRecord) -> bool:
        return "failed to converge" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def check(privacy: Privacy | None, algorithm: Any, averaged: Sequence[str]) -> None:
    """Checks that clients contribute nothing but a bounded share of the noised sum.

    Args:
      privacy: a `Privacy`, or None.
      algorithm: an `Algorithm`.
      averaged: names of the non-trainable weights that are averaged over clients.

    Raises:
      ValueError: client weights are not bounded, or something is averaged without noise.
    """
    if not privacy:
        return
    weighting = algorithm.settings.get("client_weighting", "uniform")
    if weighting != "uniform" or algorithm.weigh is not None:
        raise _checks.value_error(
            "client_weighting",
            weighting,
            "'uniform' with a private aggregator, so that the share of each client is bounded",
        )
    if averaged:
        raise _checks.value_error(
            "non_trainable",
            "average",
            "'broadcast' with a private aggregator, as non-trainable weights such as "
            f"{averaged[0]!r} would be averaged without noise",
        )


def check_extras(privacy: Privacy | None, algorithm: Any, extras: Any) -> None:
    """Raises ValueError if clients send extras, which are neither clipped nor noised."""
    if privacy and extras:
        raise ValueError(
            "algorithm: expected one without extras with a private aggregator, which cannot noise "
            f"them, got {algorithm.name}"
        )


def check_cohorts(privacy: Privacy | None, sampler: Any, num_clients: int) -> None:
    """Raises ValueError if cohorts are not drawn as the guarantee assumes.

    Args:
      privacy: a `Privacy`, or None.
      sampler: a sampler of `fedlab.clients.sampling`.
      num_clients: the number of clients of the run.
    """
    if not privacy:
        return
    expected = f"fedlab.clients.{privacy.sampling}({privacy.clients_per_round:g})"
    if hasattr(sampler, "sample"):
        raise ValueError(
            f"cohort: expected {expected} with a private aggregator, got {sampler.name}, which "
            "depends on the clients' data"
        )
    if privacy.num_clients != num_clients:
        raise _checks.value_error(
            "num_clients", privacy.num_clients, f"{num_clients}, the number of clients of the run"
        )
    name = getattr(getattr(sampler, "func", None), "__name__", "user-defined").lstrip("_")
    drawn = name, getattr(sampler, "keywords", {}).get("clients_per_round")
    if drawn != (privacy.sampling, privacy.clients_per_round):
        raise ValueError(
            f"cohort: expected {expected}, which the privacy guarantee assumes, got "
            f"{drawn[0]} cohorts of {drawn[1]} clients"
        )
