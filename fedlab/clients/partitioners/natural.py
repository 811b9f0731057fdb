"""One client per group."""

from typing import Any

import numpy as np

from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import checked_labels


@method("client", required=True)
def natural(groups: Any) -> Partition:
    """One client per group, such as a speaker, a writer, or an article.

    Args:
      groups: [n], the group of each example, of any type. Client ids are `str(group)`;
        bytes are decoded as UTF-8.

    Returns:
      str(group) -> rows, in the order of first appearance.

    Example:
      >>> {client_id: rows.tolist() for client_id, rows in natural(["b", "a", "b"]).items()}
      {'b': [0, 2], 'a': [1]}
    """
    names, codes = _encoded(groups)
    if len(names) <= 2**16:
        codes = codes.astype(np.uint16)  # which NumPy sorts by radix, several times as fast
    rows = np.argsort(codes, kind="stable").astype(np.int64, copy=False)
    sizes = np.bincount(codes, minlength=len(names))
    return dict(zip(names, np.split(rows, np.cumsum(sizes)[:-1])))


def _encoded(given: Any) -> tuple[list[str], np.ndarray]:
    """Returns the names of the groups, and the number of each example's group."""
    array = checked_labels(given)
    if array.dtype.kind in "biufmM":
        values, first, codes = np.unique(array, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return [str(values[i]) for i in order], rank[codes]
    # A dict of texts is faster than sorting them.
    groups = array.tolist()
    if {*map(type, groups)} != {str}:
        groups = [g.decode() if isinstance(g, bytes) else str(g) for g in groups]
    names = [*dict.fromkeys(groups)]
    numbers = dict(zip(names, range(len(names))))
    return names, np.fromiter(map(numbers.__getitem__, groups), np.int64, len(groups))
