"""Quantity skew: sizes that follow a power law."""

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
def power_law(
    num_examples: int,
    num_clients: int,
    exponent: float,
    seed: int,
    *,
    min_examples: int = 1,
) -> Partition:
    """Clients whose sizes follow a power law, with identically distributed examples.

    ```
    size of the client of rank r = min_examples + c * r ** -exponent,    r = 1, 2, ...
    ```

    c makes the sum num_examples. Which client has which rank, and which examples, is
    random. The sizes themselves are not: this is the rank-size form of a power law
    (Zipf's law for an exponent of 1).

    Guarantees: every example belongs to one client; each size is less than 1 from the
    formula.

    Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (FedProx),
    section 5.1, where the number of samples per device follows a power law.

    Args:
      num_examples: the number of examples.
      num_clients: 1 to num_examples.
      exponent: 0 or more; 0 gives equal sizes, 1 is Zipf's law.
      seed: 0 or more.
      min_examples: the smallest size; 0 to num_examples // num_clients.

    Returns:
      "client_<i>" -> rows.

    Example:
      >>> sorted(map(len, power_law(100, 4, exponent=1.0, seed=0, min_examples=0).values()))
      [12, 16, 24, 48]
    """
    check_num_clients(num_clients, num_examples)
    what = "such as 1.0"
    _checks.check_number("exponent", exponent, 0, 100, what=what)
    most = num_examples // num_clients
    _checks.check_int("min_examples", min_examples, 0, most, "an equal share")
    rng = seeding.generator(seed, "partition", "power_law")
    weights = np.arange(1, num_clients + 1, dtype=np.float64) ** -exponent
    sizes = rng.permutation(sizes_in_proportion(num_examples, weights, min_examples))
    return named(cut(rng.permutation(num_examples), sizes))
