"""Label skew: a fixed number of labels per client."""

from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import check_num_clients, checked_labels, named


@method("y")
def labels_per_client(labels: Any, num_clients: int, num_labels: int, seed: int) -> Partition:
    """Each client has examples of exactly `num_labels` labels.

    Labels are assigned to clients at random, such that the numbers of clients that two
    labels belong to differ by at most one. The examples of a label are divided equally
    among its clients.

    Guarantees: every example belongs to one client; each client has at least one
    example of each of its labels; the examples of a label at its clients differ by at
    most one.

    Li et al. 2022, "Federated Learning on Non-IID Data Silos", section 4.1
    (quantity-based label imbalance, #C=k). Departure from their code: it draws a
    client's labels independently of how often others have them, and loses the examples
    of labels that belong to no client.

    Args:
      labels: [n], the label of each example.
      num_clients: 1 to n.
      num_labels: 1 to the number of different labels; num_clients * num_labels is at
        least that number.
      seed: 0 or more.

    Returns:
      "client_<i>" -> rows.

    Raises:
      ValueError: a value out of range, or a label has fewer examples than clients.

    Example:
      >>> labels = np.array([0, 1, 2, 3] * 6)
      >>> partition = labels_per_client(labels, num_clients=4, num_labels=2, seed=0)
      >>> [len(set(labels[rows].tolist())) for rows in partition.values()]
      [2, 2, 2, 2]
    """
    labels = checked_labels(labels)
    check_num_clients(num_clients, len(labels))
    values, codes = np.unique(labels, return_inverse=True)
    what = "the number of different labels"
    _checks.check_int("num_labels", num_labels, 1, len(values), what)
    if num_clients * num_labels < len(values):
        raise ValueError(
            f"num_clients={num_clients}, num_labels={num_labels}: expected a product of at least "
            f"{len(values)}, the number of different labels; use more clients or more labels"
        )
    rng = seeding.generator(seed, "partition", "labels_per_client")
    owners = _owners(rng, num_clients, num_labels, len(values))
    sizes = np.bincount(codes)
    if (few := sizes < owners.sum(axis=0)).any():
        label = int(np.argmax(few))
        raise ValueError(
            f"label {values[label].item()!r} has {sizes[label]} examples: expected at least "
            f"{owners[:, label].sum()}, one for each of its clients; use fewer clients or labels"
        )
    parts: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for label in range(len(values)):
        mine = rng.permutation(np.flatnonzero(owners[:, label]))
        rows = rng.permutation(np.flatnonzero(codes == label))
        for client, piece in zip(mine, np.array_split(rows, len(mine))):
            parts[client].append(piece)
    return named(map(np.concatenate, parts))


def _owners(
    rng: np.random.Generator, num_clients: int, num_labels: int, num_values: int
) -> np.ndarray:
    """Returns [clients, labels] bool. Each client in turn gets the least used labels."""
    owners = np.zeros([num_clients, num_values], bool)
    used = np.zeros(num_values, np.int64)
    for client in range(num_clients):
        order = np.lexsort([rng.random(num_values), used])[:num_labels]
        owners[client, order] = True
        used[order] += 1
    return rng.permutation(owners)
