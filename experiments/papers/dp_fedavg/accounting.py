"""How much noise, and how many clients per round, an epsilon needs.

Poisson sampling throughout, as in Algorithm 1 of McMahan et al. 2018 and in TFF's tutorial: each
client participates in a round with probability clients_per_round / num_clients.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator


def by_divergences(
    noise_multiplier: float, clients_per_round: int, num_clients: int, rounds: int, delta: float
) -> float:
    """Returns epsilon by Rényi divergences, as TFF's tutorial computes it.

    It is an upper bound. `fedlab.aggregators.privacy.epsilon` returns the smaller one of the
    privacy loss distribution, which came later.
    """
    import dp_accounting

    gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(clients_per_round / num_clients, gaussian)
    accountant = dp_accounting.rdp.RdpAccountant()
    with _without_warnings():
        accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, rounds))
        return float(accountant.get_epsilon(delta))


def by_losses(
    noise_multiplier: float, clients_per_round: int, num_clients: int, rounds: int, delta: float
) -> float:
    """Returns epsilon as fedlab reports it in each round of a run."""
    from fedlab.aggregators import privacy

    setting = privacy.Privacy(noise_multiplier, clients_per_round, num_clients, delta, "poisson")
    return privacy.epsilon(setting, rounds)


def fewest_clients(
    epsilon: Callable[..., float],
    target: float,
    noise_per_client: float,
    num_clients: int,
    rounds: int,
    delta: float,
) -> int | None:
    """Returns the smallest cohort with an epsilon of at most `target`.

    The noise grows with the cohort, so that the noise in the mean of the updates stays the same.

    Args:
      epsilon: `by_divergences` or `by_losses`.
      target: the epsilon that is allowed.
      noise_per_client: the noise multiplier divided by the clients per round.
      num_clients, rounds, delta: see `by_divergences`.

    Returns:
      The number of clients, or None if even all clients are too few.

    Example:
      >>> fewest_clients(by_divergences, 2.0, 0.01, 3383, 100, 1e-5)
      120
    """

    def is_enough(clients):
        return epsilon(noise_per_client * clients, clients, num_clients, rounds, delta) <= target

    # Epsilon falls as the cohort grows, so the search halves the range.
    low, high = 0, num_clients
    if not is_enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def figures(
    *,
    num_clients: int,
    rounds: int,
    delta: float,
    target: float,
    noise_per_client: float,
    clients: int,
    noise: float,
    few_clients: int,
) -> dict[str, float]:
    """Returns the numbers of the study that need no training.

    Args:
      num_clients, rounds, delta, target, noise_per_client: see `fewest_clients`.
      clients, noise: the published choice.
      few_clients: the size of a smaller population, all of which participates in each round.
    """
    found: dict[str, float] = {}
    for epsilon in (by_divergences, by_losses):
        name = epsilon.__name__
        least = fewest_clients(epsilon, target, noise_per_client, num_clients, rounds, delta)
        if least is not None:
            found[f"clients_{name}"] = least
            found[f"noise_{name}"] = noise_per_client * least
        found[f"epsilon_{name}"] = epsilon(noise, clients, num_clients, rounds, delta)
    everyone = noise_per_client * few_clients
    found["epsilon_of_few"] = by_losses(everyone, few_clients, few_clients, rounds, delta)
    return found


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Drops warnings of Rényi orders that the accountant leaves out: the bound still holds."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
