"""Krum: the update with the closest neighbours.

f = largest number of attackers among n clients
score_k = sum of ||delta_k - delta_j||^2 over the n - f - 2 clients j closest to k
delta = mean of the num_selected updates with the lowest scores

Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent
Peva Blanchard, El Mahdi El Mhamdi, Rachid Guerraoui, Julien Stainer.
NIPS 2017. https://arxiv.org/abs/1703.02757
"""

import numpy as np

from fedlab import _checks
from fedlab.aggregators import _collected
from fedlab.aggregators.aggregator import Aggregator


def krum(attackers: float = 0.3, num_selected: int = 1) -> Aggregator:
    """Krum, or multi-Krum if `num_selected` is above 1 (Blanchard et al. 2017, Section 4).

        f = floor(attackers n)
        score_k = sum of ||delta_k - delta_j||^2 over the n - f - 2 clients j closest to k
        delta = the mean of the num_selected updates with the lowest scores

    All clients with a weight above 0 count equally. All updates are stored until the end of the
    round, so memory grows by one update per client of the cohort.

    Args:
      attackers: the largest fraction of attackers in a cohort, at least 0 and below 0.5. A round
        needs at least 2 f + 3 clients.
      num_selected: how many updates are averaged, at least 1. At most n - f are.

    Returns:
      An `Aggregator`. A round with fewer clients raises ValueError.

    Raises:
      ValueError: a value is out of range.

    Example:
      >>> krum(0.2, num_selected=5).settings
      {'attackers': 0.2, 'num_selected': 5}
    """
    _checks.check_number("attackers", attackers, 0, below=0.5)
    num_selected = _checks.check_int("num_selected", num_selected)
    settings = {"attackers": attackers, "num_selected": num_selected}

    def combine(tensors):
        num_clients = len(tensors[0])
        num_attackers = _collected.num_of(attackers, num_clients)
        if num_clients < 2 * num_attackers + 3:
            raise ValueError(
                f"cohort of {num_clients} clients: krum with {num_attackers} attackers expected "
                f"at least {2 * num_attackers + 3}: raise clients_per_round or lower attackers"
            )
        distances = np.sort(_squared_distances(tensors), axis=1)  # the first is to itself
        scores = distances[:, 1 : num_clients - num_attackers - 1].sum(axis=1)
        order = np.argsort(scores, kind="stable")
        chosen = order[: min(num_selected, num_clients - num_attackers)]
        return [np.mean([rows[k] for k in chosen], axis=0) for rows in tensors]

    return _collected.collect("krum", settings, combine)


def _squared_distances(tensors: list[_collected.Rows]) -> np.ndarray:
    """[clients, clients], computed in float64: they are differences of large numbers."""
    products = sum(
        piece.T @ piece for rows in tensors for piece in _collected.pieces(rows, np.float64)
    )
    norms = np.diag(products)
    return np.maximum(norms[:, None] + norms[None] - 2 * products, 0.0)
