"""Label skew: proportions from a Dirichlet distribution."""

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
    share_out,
    until_large_enough,
)

_SHARE = "an equal share"


@method("y")
def dirichlet(
    labels: Any,
    num_clients: int,
    alpha: float,
    seed: int,
    *,
    min_examples: int = 1,
    balanced: bool = False,
) -> Partition:
    """Skewed labels: the examples of each label are divided by proportions from a Dirichlet.

    ```
    for each label:
      p ~ Dirichlet(alpha, ..., alpha)
      client i gets the share p_i of the label's shuffled examples
    ```

    With a large alpha all clients have the same mixture of labels; with a small alpha
    each label belongs to few clients. The clients' sizes vary as well, unless
    `balanced`:

    ```
    for each client:
      q ~ Dirichlet(alpha * the frequencies of all labels)
      draw labels from q, and for each an example that no client has
    ```

    A label without examples left is drawn no more. When all labels of a client have run
    out, it gets examples of the others in proportion to what is left.

    Guarantees: every example belongs to one client. Each client has at least
    `min_examples`; if balanced, sizes differ by at most one.

    Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural
    Networks", section 4; Li et al. 2022, "Federated Learning on Non-IID Data Silos",
    section 4.1. Departure from their code: it gives no more examples to a client that
    has reached an equal share; this function does. Balanced: Hsu et al. 2019,
    "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", section 3, where alpha multiplies the frequencies, which sum to 1.

    Args:
      labels: [n], the label of each example.
      num_clients: 1 to n.
      alpha: above 0; 0.1 is very skewed, 100 almost uniform (1000 if balanced).
      seed: 0 or more.
      min_examples: the draw is repeated until every client has at least this many
        examples. With 0, a client may be empty.
      balanced: whether all clients get the same number of examples.

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
    labels = checked_labels(labels)
    check_num_clients(num_clients, len(labels))
    check_alpha(alpha)
    if not isinstance(balanced, bool):
        raise _checks.type_error("balanced", balanced, "True or False")
    if balanced:
        _checks.check_int("min_examples", min_examples, 0, len(labels) // num_clients, _SHARE)
        return named(_balanced(labels, num_clients, alpha, seed))
    rng = seeding.generator(seed, "partition", "dirichlet")
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def draw() -> list[np.ndarray]:
        parts = [
            share_out(rng.permutation(rows), rng.dirichlet(np.full(num_clients, alpha)))
            for rows in members
        ]
        return [np.concatenate(mine) for mine in zip(*parts)]

    return named(until_large_enough(draw, num_clients, len(labels), min_examples))


def _balanced(labels: np.ndarray, num_clients: int, alpha: float, seed: int) -> list[np.ndarray]:
    rng = seeding.generator(seed, "partition", "dirichlet", "balanced")
    values, codes = np.unique(labels, return_inverse=True)
    stock = _limited.Stock(rng, codes, len(values))
    frequencies = stock.sizes / len(labels)
    parts = []
    for size in equal_sizes(len(labels), num_clients):
        mixture = rng.dirichlet(alpha * frequencies)
        parts.append(stock.take(_limited.draw(rng, size, mixture, stock.sizes)))
    return parts
