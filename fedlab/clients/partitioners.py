"""Partitioners: which examples belong to which client, as pure functions of (labels, seed).

A partition is a dict client_id -> int64 [n], the client's rows in increasing order.
Every row belongs to exactly one client. `clients` makes a `ClientData` of it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.clients.columns import check_columns, num_rows

_MAX_DRAWS = 100

Partition = dict[str, np.ndarray]


def natural(groups: Any) -> Partition:
    """One client per group, such as a speaker, a writer, or an article.

    Args:
      groups: [n], the group of each example, of any type. Client ids are `str(group)`.

    Returns:
      str(group) -> rows, in the order of first appearance.

    Example:
      >>> {client_id: rows.tolist() for client_id, rows in natural(["b", "a", "b"]).items()}
      {'b': [0, 2], 'a': [1]}
    """
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(map(str, _checked_labels(groups))):
        rows.setdefault(group, []).append(row)
    return {group: np.array(members, np.int64) for group, members in rows.items()}


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
    _check_num_clients(num_clients, num_examples)
    order = seeding.generator(seed, "partition", "uniform").permutation(num_examples)
    return _named(np.array_split(order, num_clients))


def dirichlet(
    labels: Any, num_clients: int, alpha: float, seed: int, *, min_examples: int = 1
) -> Partition:
    """Skewed labels: the examples of each label are divided by proportions from a Dirichlet.

    ```
    for each label:
      p ~ Dirichlet(alpha, ..., alpha)
      client i gets the share p_i of the label's shuffled examples
    ```

    With a large alpha all clients have the same mixture of labels; with a small alpha
    each label belongs to few clients. The clients' sizes vary as well.

    Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural
    Networks", section 4; Li et al. 2022, "Federated Learning on Non-IID Data Silos",
    section 4.1. Departure from their code: it gives no more examples to a client that
    has reached an equal share; this function does.

    Args:
      labels: [n], the label of each example.
      num_clients: 1 to n.
      alpha: above 0; 0.1 is very skewed, 100 almost uniform.
      seed: 0 or more.
      min_examples: the draw is repeated until every client has at least this many
        examples. With 0, a client may be empty.

    Returns:
      "client_<i>" -> rows.

    Raises:
      ValueError: a value out of range, or 100 draws that each leave a client with too
        few examples.

    Example:
      >>> partition = dirichlet([0, 1] * 50, num_clients=4, alpha=0.5, seed=0)
      >>> sorted(np.concatenate(list(partition.values())).tolist()) == list(range(100))
      True
    """
    labels = _checked_labels(labels)
    _check_num_clients(num_clients, len(labels))
    _check_alpha(alpha)
    rng = seeding.generator(seed, "partition", "dirichlet")
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def draw() -> list[np.ndarray]:
        parts = [
            _share_out(rng.permutation(rows), rng.dirichlet(np.full(num_clients, alpha)))
            for rows in members
        ]
        return [np.concatenate(mine) for mine in zip(*parts)]

    return _named(_until_large_enough(draw, num_clients, len(labels), min_examples))


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
    labels = _checked_labels(labels)
    what = "the number of examples"
    _checks.check_int("shards_per_client", shards_per_client, 1, len(labels), what)
    what = f"for {len(labels)} examples and {shards_per_client} shards per client"
    _checks.check_int("num_clients", num_clients, 1, len(labels) // shards_per_client, what)
    rng = seeding.generator(seed, "partition", "shards")
    shuffled = rng.permutation(len(labels))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    pieces = np.array_split(ordered, num_clients * shards_per_client)
    order = rng.permutation(len(pieces)).reshape(num_clients, shards_per_client)
    return _named([np.concatenate([pieces[i] for i in mine]) for mine in order])


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
    _check_num_clients(num_clients, num_examples)
    _check_alpha(alpha)
    rng = seeding.generator(seed, "partition", "quantity_skew")
    order = rng.permutation(num_examples)

    def draw() -> list[np.ndarray]:
        return _share_out(order, rng.dirichlet(np.full(num_clients, alpha)))

    return _named(_until_large_enough(draw, num_clients, num_examples, min_examples))


def clients(columns: Mapping[str, Any], partition: Mapping[str, Any]) -> ClientData:
    """Makes a `ClientData` of columns and a partition of their rows.

    Args:
      columns: name -> array [n, ...].
      partition: client_id -> rows.

    Example:
      >>> columns = {"x": np.arange(4.0), "y": np.array([0, 1, 0, 1])}
      >>> clients(columns, natural(columns["y"]))["1"]
      {'x': array([1., 3.]), 'y': array([1, 1])}
    """
    arrays = check_columns(columns)
    num_examples = num_rows(arrays)
    for client_id, rows in partition.items():
        rows = np.asarray(rows)
        if rows.size and (
            rows.ndim != 1
            or rows.dtype.kind not in "iu"
            or not 0 <= rows.min() <= rows.max() < num_examples
        ):
            wrong = rows
            if rows.ndim == 1 and rows.dtype.kind in "iu":
                wrong = rows[(rows < 0) | (rows >= num_examples)]
            raise _checks.value_error(
                f"partition[{client_id!r}]",
                wrong.tolist(),
                f"row numbers between 0 and {num_examples - 1}",
            )
    return ClientData(
        partition,
        lambda client_id: {name: column[partition[client_id]] for name, column in arrays.items()},
    )


def _named(parts: Iterable[np.ndarray]) -> Partition:
    return {f"client_{i}": np.sort(rows).astype(np.int64) for i, rows in enumerate(parts)}


def _share_out(rows: np.ndarray, proportions: np.ndarray) -> list[np.ndarray]:
    """Cuts rows at the rounded cumulative proportions, so that rounding loses no row."""
    borders = np.round(np.cumsum(proportions)[:-1] * len(rows)).astype(np.int64)
    return np.split(rows, borders)


def _until_large_enough(
    draw: Callable[[], list[np.ndarray]], num_clients: int, num_examples: int, min_examples: int
) -> list[np.ndarray]:
    most = num_examples // num_clients
    _checks.check_int("min_examples", min_examples, 0, most, "an equal share")
    smallest = 0
    for _ in range(_MAX_DRAWS):
        parts = draw()
        if min(map(len, parts)) >= min_examples:
            return parts
        smallest = max(smallest, min(map(len, parts)))
    raise ValueError(
        f"min_examples={min_examples}: expected at most about {smallest}, since each of "
        f"{_MAX_DRAWS} draws left a client with too few examples; use a larger alpha, fewer "
        "clients, or min_examples=0"
    )


def _checked_labels(labels: Any) -> np.ndarray:
    try:
        array = np.asarray(labels)
        np.unique(array)
    except (ValueError, TypeError):  # rows of different lengths, or values without an order
        expected = "one number or one string per example, [n], all of one type"
        raise _checks.value_error("labels", labels, expected) from None
    if array.ndim != 1 or not len(array):
        raise ValueError(
            f"labels has shape {list(array.shape)}: expected one label per example, [n]"
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        row = int(np.argmax(np.isnan(array)))
        raise ValueError(f"labels[{row}]=nan: expected a number; remove such examples")
    return array


def _check_num_clients(num_clients: int, num_examples: int) -> None:
    _checks.check_int("num_examples", num_examples)
    what = "the number of examples"
    _checks.check_int("num_clients", num_clients, 1, num_examples, what)


def _check_alpha(alpha: float) -> None:
    _checks.check_number("alpha", alpha, above=0, what="such as 0.5")
