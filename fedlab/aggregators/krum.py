"""Krum: the update that has the closest neighbours.

f = largest number of attackers among n clients
score_k = sum of ||delta_k - delta_j||^2 over the n - f - 2 clients j closest to k
delta = mean of the num_selected updates of the lowest score

Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent
Peva Blanchard, El Mahdi El Mhamdi, Rachid Guerraoui, Julien Stainer. NIPS 2017. https://arxiv.org/abs/1703.02757
"""

import numpy as np

from fedlab import _checks
from fedlab.aggregators import _kept


def krum(attackers=0.3, num_selected=1):
    """Krum, and with a `num_selected` above 1 multi-Krum (Blanchard et al. 2017, section 4).

        score_k = sum of ||delta_k - delta_j||^2 over the n - f - 2 clients j closest to k,    f = floor(attackers n)
        delta = the mean of the num_selected updates of the lowest score

    Clients count the same whatever their weight, apart from those of weight 0. All updates are kept until the round's end: memory grows
    with the cohort, by one update a client.

    Args:
      attackers: the largest share of a round's clients that attack, 0 or more, below .5. A round needs 2 f + 3 clients.
      num_selected: how many updates are averaged, 1 or more; at most n - f of them are.

    Returns:
      An `Aggregator`. A round with fewer clients raises ValueError.

    Raises:
      ValueError: for a value out of range.

    Example:
      >>> krum(0.2, num_selected=5).settings
      {'attackers': 0.2, 'num_selected': 5}
    """
    if not _checks.is_number(attackers) or not 0 <= attackers < 0.5:
        raise ValueError(f"attackers is {attackers!r}; allowed: a share of 0 or more, below 0.5.")
    num_selected = _checks.check_int("num_selected", num_selected)
    settings = {"attackers": attackers, "num_selected": num_selected}

    def combine(tensors):
        num_clients = len(tensors[0])
        num_attackers = _kept.num_of(attackers, num_clients)
        if num_clients < 2 * num_attackers + 3:
            raise ValueError(
                f"krum with {num_attackers} attackers has {num_clients} clients in a round; allowed: {2 * num_attackers + 3} or more: "
                "raise clients_per_round, or lower attackers."
            )
        nearest = np.sort(_squared_distances(tensors), axis=1)[
            :, 1 : num_clients - num_attackers - 1
        ]  # without itself
        order = np.argsort(nearest.sum(axis=1), kind="stable")
        chosen = order[: min(num_selected, num_clients - num_attackers)]
        return [np.mean([rows[k] for k in chosen], axis=0) for rows in tensors]

    return _kept.keep("krum", settings, combine)


def _squared_distances(tensors):
    """[clients, clients]. In float64 the products lose less than the float32 values have lost already."""
    products = sum(piece.T @ piece for rows in tensors for piece in _kept.pieces(rows, np.float64))
    norms = np.diag(products)
    return np.maximum(norms[:, None] + norms[None] - 2 * products, 0.0)
