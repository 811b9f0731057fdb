"""Quantity skew: sizes from a Dirichlet distribution."""

import numpy as np

from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import (
    check_alpha,
    check_num_clients,
    named,
    share_out,
    until_large_enough,
)


@method(None)
def quantity_skew(
    num_examples: int, num_clients: int, alpha: float, seed: int, *, min_examples: int = 1
) -> Partition:
    """Clients of different sizes with identically distributed examples.

    ```
    sizes ~ num_examples * Dirichlet(alpha, ..., alpha)
    ```

    Li et al. 2022, "Federated Learning on Non-IID Data Silos", section 4.3.

    Args:
      num_examples, num_clients: as in `uniform`.
      alpha: above 0; smaller values give more unequal sizes.
      seed: 0 or more.
      min_examples: as in `dirichlet`.

    Returns:
      "client_<i>" -> rows.

    Example:
      >>> sum(map(len, quantity_skew(100, 5, alpha=0.5, seed=0).values()))
      100
    """
    check_num_clients(num_clients, num_examples)
    check_alpha(alpha)
    rng = seeding.generator(seed, "partition", "quantity_skew")
    order = rng.permutation(num_examples)

    def draw() -> list[np.ndarray]:
        return share_out(order, rng.dirichlet(np.full(num_clients, alpha)))

    return named(until_large_enough(draw, num_clients, num_examples, min_examples))
