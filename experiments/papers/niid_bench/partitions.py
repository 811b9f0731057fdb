"""The partitions of NIID-Bench: functions of the labels that return rows by client.

They differ from `fedlab.partitioners`: there, the Dirichlet distribution alone determines
the sizes of clients, and all labels belong to equally many clients.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedlab.clients import seeding

NAMES = {"iid": "IID", "dirichlet": "Dirichlet(0.5)", "two_labels": "two labels per client"}

MIN_EXAMPLES = 10


def partitioner(name: str, num_clients: int, seed: int) -> Callable[[Mapping[str, Any]], Any]:
    """Returns columns -> {client id: rows}, for the partition `name` of `NAMES`."""
    divide = {"iid": iid, "dirichlet": dirichlet, "two_labels": two_labels}[name]

    def rows_by_client(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
        rng = seeding.generator(seed, f"NIID-Bench {name}")
        parts = divide(np.asarray(columns["y"]), num_clients, rng)
        return {f"client_{i}": rows for i, rows in enumerate(parts)}

    return rows_by_client


def iid(labels: np.ndarray, num_clients: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Equal shares of the shuffled rows."""
    return np.array_split(rng.permutation(len(labels)), num_clients)


def dirichlet(
    labels: np.ndarray, num_clients: int, rng: np.random.Generator, alpha: float = 0.5
) -> list[np.ndarray]:
    """Shares of each label from a Dirichlet distribution.

    A client that has an equal share of all rows, or more, gets none of the following
    labels. The draw is repeated until each client has at least `MIN_EXAMPLES` rows.
    """
    equal_share = len(labels) / num_clients
    while True:
        parts: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
        sizes = np.zeros(num_clients)
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(num_clients, alpha)) * (sizes < equal_share)
            ends = np.rint(np.cumsum(shares / shares.sum())[:-1] * len(rows))
            for client, piece in enumerate(np.split(rows, ends.astype(int))):
                parts[client].append(piece)
                sizes[client] += len(piece)
        if sizes.min() >= MIN_EXAMPLES:
            return [np.concatenate(pieces) for pieces in parts]


def two_labels(labels: np.ndarray, num_clients: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Client i has the label i and another one, drawn at random.

    The rows of a label are divided equally among its clients. With more clients than
    labels, client i has the label i modulo their number.

    Raises:
      ValueError: there are fewer clients than labels, so that a label may belong to none.
    """
    values = np.unique(labels)
    if num_clients < len(values):
        raise ValueError(
            f"num_clients={num_clients}: expected at least {len(values)}, the number of labels"
        )
    owners: dict[int, list[int]] = {i: [] for i in range(len(values))}
    for client in range(num_clients):
        own = client % len(values)
        other = (own + rng.integers(1, len(values))) % len(values)
        owners[own].append(client)
        owners[int(other)].append(client)
    parts: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for i, clients in owners.items():
        rows = rng.permutation(np.flatnonzero(labels == values[i]))
        for client, piece in zip(clients, np.array_split(rows, len(clients))):
            parts[client].append(piece)
    return [np.concatenate(pieces) for pieces in parts]
