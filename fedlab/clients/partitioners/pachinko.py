"""Label skew in a hierarchy of labels: Pachinko allocation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.partitioners import _limited
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import (
    check_alpha,
    check_num_clients,
    checked_labels,
    equal_sizes,
    named,
)


@method("y")
def pachinko(
    labels: Any,
    num_clients: int,
    parents: Any,
    seed: int,
    *,
    alpha: float = 0.1,
    beta: float = 10.0,
    examples_per_client: int | None = None,
) -> Partition:
    """Skewed labels of two levels: few coarse labels per client, most fine labels of each.

    ```
    for each client:
      p ~ Dirichlet(alpha, ..., alpha)     over the coarse labels
      q_c ~ Dirichlet(beta, ..., beta)     over the fine labels of each coarse label c
      for each of its examples:
        draw c from p, a fine label from q_c, and an example of it that no client has
    ```

    A fine label without examples left is removed from its q_c, and a coarse label without
    fine labels from p; the others keep their proportions.

    Guarantees: no example belongs to two clients. Without `examples_per_client` every
    example belongs to one, and sizes differ by at most one. With it, every client has
    exactly that many, and the other examples belong to none.

    Reddi et al. 2021, "Adaptive Federated Optimization", appendix F: CIFAR-100 with 20
    coarse and 100 fine labels, 500 clients of 100 examples, alpha = 0.1, beta = 10. The
    allocation is that of Li & McCallum 2006, "Pachinko Allocation: DAG-Structured
    Mixture Models of Topic Correlations".

    Args:
      labels: [n], the fine label of each example.
      num_clients: 1 to n.
      parents: the coarse label of each fine label: a dict, or a sequence that is indexed
        by the fine labels.
      seed: 0 or more.
      alpha: above 0; smaller values give a client fewer coarse labels.
      beta: above 0; smaller values give a client fewer fine labels of a coarse label.
      examples_per_client: 1 to n // num_clients; None for equal shares of all examples.

    Returns:
      "client_<i>" -> rows.

    Raises:
      ValueError: a value out of range, or a label without a parent.

    Example:
      >>> fine = np.arange(100) % 4
      >>> partition = pachinko(fine, num_clients=5, parents=[0, 0, 1, 1], seed=0)
      >>> [len(rows) for rows in partition.values()]
      [20, 20, 20, 20, 20]
    """
    labels = checked_labels(labels)
    check_num_clients(num_clients, len(labels))
    check_alpha(alpha)
    check_alpha(beta, "beta")
    if examples_per_client is None:
        sizes = equal_sizes(len(labels), num_clients)
    else:
        most = len(labels) // num_clients
        _checks.check_int("examples_per_client", examples_per_client, 1, most, "an equal share")
        sizes = [examples_per_client] * num_clients
    values, codes = np.unique(labels, return_inverse=True)
    coarse = np.unique([_parent(parents, value.item()) for value in values], return_inverse=True)[1]
    children = [np.flatnonzero(coarse == c) for c in range(coarse.max() + 1)]
    rng = seeding.generator(seed, "partition", "pachinko")
    stock = _limited.Stock(rng, codes, len(values))

    def counts(size: int) -> np.ndarray:
        fine = np.zeros_like(stock.sizes)
        left = np.bincount(coarse, stock.sizes).astype(np.int64)
        drawn = _limited.draw(rng, size, rng.dirichlet(np.full(len(children), alpha)), left)
        for mine, number in zip(children, drawn):
            if number:
                mixture = rng.dirichlet(np.full(len(mine), beta))
                fine[mine] = _limited.draw(rng, int(number), mixture, stock.sizes[mine])
        return fine

    return named([stock.take(counts(size)) for size in sizes])


def _parent(parents: Any, label: Any) -> Any:
    try:
        if not isinstance(parents, Mapping) and not _checks.is_int(label, 0):
            raise IndexError
        parent = parents[label]
    except (KeyError, IndexError):
        raise ValueError(
            f"parents has no coarse label for the label {label!r}: expected a dict, fine label -> "
            "coarse label, or a sequence indexed by the fine labels"
        ) from None
    except TypeError:
        expected = "a dict, fine label -> coarse label, or a sequence indexed by the fine labels"
        raise _checks.type_error("parents", parents, expected) from None
    if not isinstance(parent, (str, bytes)) and not _checks.is_number(parent):
        raise _checks.type_error(f"parents[{label!r}]", parent, "a number or a string")
    return parent
