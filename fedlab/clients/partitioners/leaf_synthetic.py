"""Quantity skew: the sizes of LEAF's synthetic data."""

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import cut, named

_FEWEST, _MOST = 5, 1000
_LOCATION, _SIGMA = 3.0, 2.0


@method(None)
def leaf_synthetic(num_examples: int, num_clients: int, seed: int) -> Partition:
    """Clients of the sizes of LEAF's synthetic data set, with identically distributed examples.

    ```
    size ~ min(5 + floor(LogNormal(3, 2)), 1000)
    ```

    Guarantees: no example belongs to two clients; each client has 5 to 1,000 examples,
    the same for every num_examples. Examples beyond the sum belong to no client.

    Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings"; `get_num_samples` in
    `data/synthetic/main.py` of its code. The data itself, with a model per client, is
    `fedlab.datasets.leaf_synthetic`.

    Args:
      num_examples: at least the sum of the sizes.
      num_clients: 1 or more.
      seed: 0 or more.

    Returns:
      "client_<i>" -> rows.

    Raises:
      ValueError: there are fewer examples than the sizes need.

    Example:
      >>> partition = leaf_synthetic(1000, num_clients=3, seed=0)
      >>> [len(rows) for rows in partition.values()] == leaf_sizes(3, seed=0).tolist()
      True
    """
    _checks.check_int("num_examples", num_examples)
    sizes = leaf_sizes(num_clients, seed)
    if sizes.sum() > num_examples:
        raise ValueError(
            f"num_examples={num_examples}: expected at least {sizes.sum()} for {num_clients} "
            f"clients with seed {seed}; use fewer clients"
        )
    rng = seeding.generator(seed, "partition", "leaf_synthetic", "rows")
    return named(cut(rng.permutation(num_examples), sizes))


def leaf_sizes(num_clients: int, seed: int) -> np.ndarray:
    """Returns int64 [num_clients], the sizes of `leaf_synthetic`.

    Args:
      num_clients: 1 or more.
      seed: 0 or more.

    Example:
      >>> sizes = leaf_sizes(1000, seed=0)
      >>> int(sizes.min()), int(sizes.max())
      (5, 1000)
    """
    _checks.check_int("num_clients", num_clients)
    rng = seeding.generator(seed, "partition", "leaf_synthetic", "sizes")
    drawn = rng.lognormal(_LOCATION, _SIGMA, num_clients)
    return np.minimum(drawn + _FEWEST, _MOST).astype(np.int64)
