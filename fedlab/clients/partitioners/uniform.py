"""Independent and identically distributed clients."""

import numpy as np

from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import check_num_clients, named


@method(None)
def uniform(num_examples: int, num_clients: int, seed: int) -> Partition:
    """Equal shares of the shuffled examples: independent and identically distributed clients.

    McMahan et al. 2017, section 3.

    Args:
      num_examples: the number of examples.
      num_clients: 1 to num_examples; sizes differ by at most one.
      seed: 0 or more.

    Returns:
      "client_<i>" -> rows.

    Example:
      >>> sorted(map(len, uniform(7, 3, seed=0).values()))
      [2, 2, 3]
    """
    check_num_clients(num_clients, num_examples)
    order = seeding.generator(seed, "partition", "uniform").permutation(num_examples)
    return named(np.array_split(order, num_clients))
