"""Quantity skew: log-normal sizes."""

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import (
    check_num_clients,
    cut,
    named,
    sizes_in_proportion,
)


@method(None)
def log_normal(
    num_examples: int,
    num_clients: int,
    sigma: float,
    seed: int,
    *,
    min_examples: int = 1,
) -> Partition:
    """Clients of log-normal sizes, with identically distributed examples.

    ```
    z_i ~ Normal(0, 1)
    size of client i = min_examples + c * exp(sigma * z_i)
    ```

    c makes the sum num_examples.

    Guarantees: every example belongs to one client; each size is less than 1 from the
    formula, so at least min_examples.

    The code of Li et al. 2020, "Federated Optimization in Heterogeneous Networks"
    (FedProx), draws the sizes of its synthetic data as 50 + LogNormal(4, 2), and LEAF
    (Caldas et al. 2018) as 5 + LogNormal(3, 2). The location only scales the sizes, and
    c takes its place.

    Args:
      num_examples: the number of examples.
      num_clients: 1 to num_examples.
      sigma: 0 to 100; 0 gives equal sizes, 2 is that of FedProx and LEAF.
      seed: 0 or more.
      min_examples: the smallest size; 0 to num_examples // num_clients.

    Returns:
      "client_<i>" -> rows.

    Example:
      >>> sorted(map(len, log_normal(100, 5, sigma=0.0, seed=0).values()))
      [20, 20, 20, 20, 20]
      >>> sum(map(len, log_normal(100, 5, sigma=2.0, seed=0).values()))
      100
    """
    check_num_clients(num_clients, num_examples)
    _checks.check_number("sigma", sigma, 0, 100, what="such as 2.0")
    most = num_examples // num_clients
    _checks.check_int("min_examples", min_examples, 0, most, "an equal share")
    rng = seeding.generator(seed, "partition", "log_normal")
    logarithms = sigma * rng.standard_normal(num_clients)
    weights = np.exp(logarithms - logarithms.max())  # at most 1, so that none overflows
    sizes = sizes_in_proportion(num_examples, weights, min_examples)
    return named(cut(rng.permutation(num_examples), sizes))
