"""Partitioners: which examples belong to which client, as pure functions of (labels, seed).

A partition is a dict client_id -> int64 [n], the rows of that client in increasing order; every row belongs to exactly one client.
`clients` makes it a `ClientData`.
"""

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.clients.columns import check_columns, num_rows

_MAX_DRAWS = 100


def natural(groups):
    """One client a group, such as a speaker, a writer, or an article.

    Args:
      groups: [n], the group of each example, of any type that `str` tells apart.

    Returns:
      str(group) -> rows, groups in the order in which they first come.

    Example:
      >>> {client_id: rows.tolist() for client_id, rows in natural(["b", "a", "b"]).items()}
      {'b': [0, 2], 'a': [1]}
    """
    rows = {}
    for row, group in enumerate(map(str, _checked_labels(groups))):
        rows.setdefault(group, []).append(row)
    return {group: np.array(members, np.int64) for group, members in rows.items()}


def uniform(num_examples, num_clients, seed):
    """Every client is an equal share of the shuffled examples: independent and identically distributed (McMahan et al. 2017, section 3).

    Args:
      num_examples: how many examples there are.
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


def dirichlet(labels, num_clients, alpha, seed, *, min_examples=1):
    """Skewed labels: the examples of each label are shared out by proportions drawn from a Dirichlet distribution.

    ```
    for each label:  p ~ Dirichlet(alpha, ..., alpha);  client i gets the share p_i of the label's shuffled examples
    ```

    A large alpha gives every client the same mixture of labels, a small one gives each label to few clients. So a client's size varies too.

    Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural Networks", section 4; Li et al. 2022, "Federated Learning on
    Non-IID Data Silos", section 4.1. Their code also stops giving to a client that has its equal share; this does not.

    Args:
      labels: [n], the label of each example.
      num_clients: 1 to n.
      alpha: above 0; 0.1 is very skewed, 100 almost uniform.
      seed: 0 or more.
      min_examples: the draw is repeated until every client has so many. With 0, a client may be empty.

    Returns:
      "client_<i>" -> rows.

    Raises:
      ValueError: a value out of range, or 100 draws that each left a client with too few.

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

    def draw():
        parts = [
            _share_out(rng.permutation(rows), rng.dirichlet(np.full(num_clients, alpha)))
            for rows in members
        ]
        return [np.concatenate(mine) for mine in zip(*parts)]

    return _named(_until_large_enough(draw, num_clients, len(labels), min_examples))


def shards(labels, num_clients, seed, *, shards_per_client=2):
    """Few labels a client: the examples, sorted by label, are cut in equal shards and each client is given some of them.

    McMahan et al. 2017, section 3: MNIST in 200 shards of 300, two a client.

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
    _check_count("shards_per_client", shards_per_client, len(labels), "the number of examples")
    _check_count(
        "num_clients",
        num_clients,
        len(labels) // shards_per_client,
        f"for {len(labels)} examples in {shards_per_client} shards a client",
    )
    rng = seeding.generator(seed, "partition", "shards")
    shuffled = rng.permutation(len(labels))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    pieces = np.array_split(ordered, num_clients * shards_per_client)
    order = rng.permutation(len(pieces)).reshape(num_clients, shards_per_client)
    return _named([np.concatenate([pieces[i] for i in mine]) for mine in order])


def quantity_skew(num_examples, num_clients, alpha, seed, *, min_examples=1):
    """Clients of very different sizes whose examples are alike: `sizes ~ num_examples * Dirichlet(alpha, ..., alpha)`.

    Li et al. 2022, "Federated Learning on Non-IID Data Silos", section 4.3.

    Args:
      num_examples, num_clients: as in `uniform`.
      alpha: above 0; the smaller, the more unequal.
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

    def draw():
        return _share_out(order, rng.dirichlet(np.full(num_clients, alpha)))

    return _named(_until_large_enough(draw, num_clients, num_examples, min_examples))


def clients(columns, partition):
    """The rows of columns as a `ClientData`.

    Args:
      columns: name -> array [n, ...].
      partition: client_id -> rows.

    Example:
      >>> columns = {"x": np.arange(4.0), "y": np.array([0, 1, 0, 1])}
      >>> clients(columns, natural(columns["y"]))["1"]
      {'x': array([1., 3.]), 'y': array([1, 1])}
    """
    columns = check_columns(columns)
    num_examples = num_rows(columns)
    for client_id, rows in partition.items():
        rows = np.asarray(rows)
        if rows.size and (
            rows.ndim != 1
            or rows.dtype.kind not in "iu"
            or not 0 <= rows.min() <= rows.max() < num_examples
        ):
            wrong = (
                rows[(rows < 0) | (rows >= num_examples)]
                if rows.ndim == 1 and rows.dtype.kind in "iu"
                else rows
            )
            raise ValueError(
                f"client {client_id!r} has the rows {wrong.tolist()!s:.60}; allowed: ints from 0 to {num_examples - 1}."
            )
    return ClientData(
        partition,
        lambda client_id: {name: column[partition[client_id]] for name, column in columns.items()},
    )


def _named(parts):
    return {f"client_{i}": np.sort(rows).astype(np.int64) for i, rows in enumerate(parts)}


def _share_out(rows, proportions):
    """Cuts rows so that the borders are the rounded cumulative proportions: no row is lost, whatever the rounding."""
    borders = np.round(np.cumsum(proportions)[:-1] * len(rows)).astype(np.int64)
    return np.split(rows, borders)


def _until_large_enough(draw, num_clients, num_examples, min_examples):
    _check_count(
        "min_examples", min_examples, num_examples // num_clients, "an equal share", least=0
    )
    smallest = 0
    for _ in range(_MAX_DRAWS):
        parts = draw()
        if min(map(len, parts)) >= min_examples:
            return parts
        smallest = max(smallest, min(map(len, parts)))
    raise ValueError(
        f"{_MAX_DRAWS} draws left some client with fewer than min_examples={min_examples} examples (at best {smallest}): "
        "use a larger alpha, fewer clients, or min_examples=0."
    )


def _checked_labels(labels):
    try:
        labels = np.asarray(labels)
        np.unique(labels)
    except (ValueError, TypeError):  # rows of different lengths, or what has no order
        given = " ".join(repr(labels).split())
        raise ValueError(
            f"received the labels {given:.80}; allowed: one number or one text an example, [n], all of one kind."
        ) from None
    if labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"received labels of shape {list(labels.shape)}; allowed: one label an example, [n], n of 1 or more."
        )
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(
            f"label {int(np.isnan(labels).argmax())} is nan; allowed: labels that equal themselves: leave such examples out."
        )
    return labels


def _check_num_clients(num_clients, most):
    _checks.check_int("num_examples", most)
    _check_count("num_clients", num_clients, most, "so that each can have an example")


def _check_count(name, value, most, why, least=1):
    _checks.check_int(name, value, least, most, why)


def _check_alpha(alpha):
    _checks.check_number("alpha", alpha, above=0, what="such as 0.5")
