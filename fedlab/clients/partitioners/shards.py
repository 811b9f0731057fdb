"""Label skew: shards of the examples sorted by label."""

from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import checked_labels, named


@method("y")
def shards(labels: Any, num_clients: int, seed: int, *, shards_per_client: int = 2) -> Partition:
    """Few labels per client: examples are sorted by label and cut into equal shards.

    Each client gets `shards_per_client` random shards. McMahan et al. 2017, section 3,
    cut MNIST into 200 shards of 300 examples and use two per client.

    Args:
      labels: [n], the label of each example.
      num_clients: 1 or more.
      seed: 0 or more.
      shards_per_client: 1 or more; num_clients * shards_per_client is at most n.

    Returns:
      "client_<i>" -> rows.

    Example:
      >>> partition = shards([0, 1, 2, 3] * 6, num_clients=4, seed=0, shards_per_client=1)
      >>> [len(set((rows % 4).tolist())) for rows in partition.values()]
      [1, 1, 1, 1]
    """
    labels = checked_labels(labels)
    what = "the number of examples"
    _checks.check_int("shards_per_client", shards_per_client, 1, len(labels), what)
    what = f"for {len(labels)} examples and {shards_per_client} shards per client"
    _checks.check_int("num_clients", num_clients, 1, len(labels) // shards_per_client, what)
    rng = seeding.generator(seed, "partition", "shards")
    shuffled = rng.permutation(len(labels))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    pieces = np.array_split(ordered, num_clients * shards_per_client)
    order = rng.permutation(len(pieces)).reshape(num_clients, shards_per_client)
    return named([np.concatenate([pieces[i] for i in mine]) for mine in order])
