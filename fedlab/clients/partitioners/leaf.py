"""The sampling procedure of LEAF for natural clients."""

from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import named
from fedlab.clients.partitioners.natural import natural


@method("client", required=True)
def leaf(
    groups: Any,
    seed: int,
    *,
    fraction: float = 1.0,
    min_examples: int = 0,
    iid: bool = False,
    client_fraction: float = 0.01,
) -> Partition:
    """Samples natural clients as LEAF does for Shakespeare, Sent140, FEMNIST and CelebA.

    ```
    m = floor(fraction * n)
    iid=False:  take random clients, each with all examples, until there are m examples;
                the last client keeps only its first ones
    iid=True:   divide m random examples among round(client_fraction * clients) clients
    remove clients with fewer than min_examples examples
    ```

    For Shakespeare, a group is a role of a play. LEAF's README gives these options of its
    script: `-s niid --sf 1.0 -k 0` is the full data set, `-s niid --sf 0.2 -k 0` the
    small one. `--sf` is the fraction, `-k` min_examples, `-s iid` iid, and `--iu`
    client_fraction.

    Guarantees: no example belongs to two clients. Before clients are removed, there are
    exactly m examples. With iid=False, every client but one has all its examples; with
    iid=True, sizes differ by at most one. Every client has at least min_examples.

    Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings", section 3.1, and
    `data/utils/sample.py`, `remove_users.py` of its code. Departure: clients have the
    order of their first example, not a random one.

    Args:
      groups: [n], the client of each example, such as "PLAY_ROLE".
      seed: 0 or more.
      fraction: the share of the examples to sample; above 0, at most 1.
      min_examples: 0 or more.
      iid: whether to mix the examples of all clients.
      client_fraction: with `iid`, the number of clients as a share of the natural
        clients; above 0, at most 1. At least one client is made.

    Returns:
      str(group) -> rows; "client_<i>" -> rows if `iid`.

    Raises:
      ValueError: a value out of range, or no client has min_examples.

    Example:
      >>> roles = ["HAMLET"] * 6 + ["OPHELIA"] * 3 + ["A LORD"]
      >>> list(leaf(roles, seed=0, min_examples=2))
      ['HAMLET', 'OPHELIA']
      >>> sum(map(len, leaf(roles, seed=0, fraction=0.5).values()))
      5
    """
    clients = natural(groups)
    num_examples = sum(map(len, clients.values()))
    _checks.check_number("fraction", fraction, above=0, maximum=1, what="such as 0.1")
    _checks.check_int("min_examples", min_examples, 0)
    what = "such as 0.01"
    _checks.check_number("client_fraction", client_fraction, above=0, maximum=1, what=what)
    num_sampled = int(fraction * num_examples)
    if not num_sampled:
        raise ValueError(
            f"fraction={fraction}: expected a share of at least one of {num_examples} examples"
        )
    rng = seeding.generator(seed, "partition", "leaf")
    if iid:
        num_clients = max(1, round(client_fraction * len(clients)))
        sampled = rng.permutation(num_examples)[:num_sampled]
        found = named(np.array_split(sampled, num_clients))
    else:
        found = {}
        names = [*clients]
        for i in rng.permutation(len(names)):
            found[names[i]] = clients[names[i]][:num_sampled]
            num_sampled -= len(found[names[i]])
        found = {name: found[name] for name in names}
    kept = {name: rows for name, rows in found.items() if len(rows) >= max(1, min_examples)}
    if not kept:
        largest = max(map(len, found.values()))
        raise ValueError(
            f"min_examples={min_examples}: expected at most {largest}, the size of the largest "
            "client; use a smaller number or a larger fraction"
        )
    return kept
