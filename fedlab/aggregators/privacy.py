"""What a differentially private result supposes, and how much of the budget it has spent."""

import functools
from typing import NamedTuple

SAMPLINGS = ("poisson", "uniform")


class Privacy(NamedTuple):
    """A guarantee: each round, clients drawn by `sampling` add up, each with a norm of at most C, and Gaussian noise z C is added.

    Attributes:
      noise_multiplier: z, 0 or more.
      clients_per_round: how many clients a round has, with Poisson sampling on average.
      num_clients: how many there are.
      delta: the probability with which epsilon may be exceeded.
      sampling: "poisson": each client takes part with probability clients_per_round / num_clients, and guarantees hide whether a client
        exists. "uniform": exactly clients_per_round distinct clients, and guarantees hide a client that another takes the place of.
    """

    noise_multiplier: float
    clients_per_round: float
    num_clients: int
    delta: float
    sampling: str


def metrics(privacy, rounds):
    """What a run reports of its guarantee after some rounds, name -> float.

    `epsilon` is what the rounds have spent; see `epsilon`. With "uniform" sampling, whose guarantee
    hides a client that another takes the place of, `epsilon_poisson` is there too: what Poisson
    sampling of as many clients, whose guarantee hides whether a client exists, would have spent.
    It is a comparison, not a guarantee of this run.
    """
    spent = {"epsilon": epsilon(privacy, rounds)}
    if privacy.sampling == "uniform":
        spent["epsilon_poisson"] = epsilon(privacy._replace(sampling="poisson"), rounds)
    return spent


def epsilon(privacy, rounds):
    """The epsilon that `rounds` rounds have spent at `privacy.delta`; infinite without noise.

    "poisson": by the privacy loss distribution, which is tight up to rounding upwards (Koskela et al.
    2020; Doroshenko et al. 2022), for neighbours with one client more or less. "uniform": by Rényi
    differential privacy, for neighbours with one client in another's place. The second is several
    times as large for the same noise: sample by "poisson" where you can.

    Args:
      privacy: a `Privacy`.
      rounds: how many, 0 or more.

    Returns:
      A float of 0 or more.

    Example: 120 of 3,383 clients in each of 100 rounds, with a noise of 0.01 of the clients.
      >>> round(epsilon(Privacy(1.2, 120, 3383, 1e-5, "poisson"), 100), 2)
      1.71
      >>> round(epsilon(Privacy(1.2, 120, 3383, 1e-5, "uniform"), 100), 2)
      14.09
    """
    if not rounds:
        return 0.0
    if not privacy.noise_multiplier:
        return float("inf")
    return _spent(privacy, rounds)


@functools.lru_cache(maxsize=64)
def _spent(privacy, rounds):
    from dp_accounting import rdp

    orders, one_round = _divergences(*privacy[:3], privacy.sampling)
    by_divergences = float(rdp.compute_epsilon(orders, rounds * one_round, privacy.delta)[0])
    if privacy.sampling == "uniform":
        return by_divergences
    losses = _losses(*privacy[:3]).self_compose(rounds)
    # Both bound it from above. Where hardly anything is sampled or added, rounding may cost more.
    return min(by_divergences, float(losses.get_epsilon_for_delta(privacy.delta)))


@functools.lru_cache(maxsize=16)
def _losses(noise_multiplier, clients_per_round, num_clients):
    """The privacy loss distribution of one round with Poisson sampling, one client more or less."""
    from dp_accounting.pld import privacy_loss_distribution

    # With little noise losses are large, and steps as fine as for others would take minutes.
    step = 1e-3 * max(1.0, (0.5 / noise_multiplier) ** 2)
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        sampling_prob=clients_per_round / num_clients,
        value_discretization_interval=step,
        use_connect_dots=True,
    )


@functools.lru_cache(maxsize=16)
def _divergences(noise_multiplier, clients_per_round, num_clients, sampling):
    """Rényi divergences of one round, (orders, divergences)."""
    import dp_accounting
    from dp_accounting import rdp

    if sampling == "poisson":
        accountant = rdp.RdpAccountant()
        gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
        event = dp_accounting.PoissonSampledDpEvent(clients_per_round / num_clients, gaussian)
    else:
        # Another client in one's place changes the sum by up to 2 C; the accountant takes the noise as a multiple of that.
        accountant = rdp.RdpAccountant(
            neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE
        )
        gaussian = dp_accounting.GaussianDpEvent(noise_multiplier / 2)
        event = dp_accounting.SampledWithoutReplacementDpEvent(
            num_clients, int(clients_per_round), gaussian
        )
    accountant.compose(event)
    return accountant.orders, accountant.rdp


def check(privacy, algorithm, averaged):
    """Checks that a run sends nothing from its clients but the sum that is noised.

    Args:
      privacy: a `Privacy`, or None.
      algorithm: an `Algorithm`.
      averaged: names of the non-trainable weights that are averaged over the clients.

    Raises:
      ValueError: client weights are not bounded, or something is averaged without noise.
    """
    if not privacy:
        return
    weighting = algorithm.settings.get("client_weighting", "uniform")
    if weighting != "uniform" or algorithm.weigh is not None:
        raise ValueError(
            f"client_weighting is {weighting!r}; allowed with a private aggregator: 'uniform', which each client has a bounded share in."
        )
    if averaged:
        raise ValueError(
            f"non_trainable is 'average' and the model has non-trainable weights such as {averaged[0]!r}, "
            "which would be averaged without noise; allowed with a private aggregator: "
            "non_trainable='broadcast', which never updates them."
        )


def check_extras(privacy, algorithm, extras):
    """Raises ValueError where clients send what is neither clipped nor noised."""
    if privacy and extras:
        raise ValueError(
            f"{algorithm.name} has clients send more than an update (extras), which a private aggregator cannot noise."
        )


def check_cohorts(privacy, sampler, num_clients):
    """Raises ValueError where cohorts are not drawn as the guarantee supposes.

    Args:
      privacy: a `Privacy`, or None.
      sampler: of `fedlab.clients.sampling`.
      num_clients: how many clients the run has.
    """
    if not privacy:
        return
    if hasattr(sampler, "sample"):
        raise ValueError(
            f"the cohort is drawn by {sampler.name}, which uses what clients have reported; allowed with a private aggregator: "
            f"cohort=fedlab.clients.{privacy.sampling}({privacy.clients_per_round:g}), which does not depend on their data."
        )
    if privacy.num_clients != num_clients:
        raise ValueError(
            f"the aggregator's guarantee is for num_clients={privacy.num_clients}; the run has {num_clients} clients."
        )
    name = getattr(getattr(sampler, "func", None), "__name__", "of another kind").lstrip("_")
    drawn = name, getattr(sampler, "keywords", {}).get("clients_per_round")
    if drawn != (privacy.sampling, privacy.clients_per_round):
        raise ValueError(
            f"the aggregator's guarantee is for {privacy.clients_per_round:g} clients a round by {privacy.sampling} sampling, cohorts are "
            f"{drawn[0]}, of {drawn[1]} clients: pass cohort=fedlab.clients.{privacy.sampling}({privacy.clients_per_round:g})."
        )
