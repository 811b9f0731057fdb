"""What several partitioners share: checks of arguments, shares, and client ids."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.partitioners._method import Partition

_MAX_DRAWS = 100


def named(parts: Iterable[np.ndarray]) -> Partition:
    """Returns "client_<i>" -> the rows of part i in increasing order."""
    return {f"client_{i}": np.sort(rows).astype(np.int64) for i, rows in enumerate(parts)}


def share_out(rows: np.ndarray, proportions: np.ndarray) -> list[np.ndarray]:
    """Cuts rows at the rounded cumulative proportions, so that rounding loses no row."""
    borders = np.round(np.cumsum(proportions)[:-1] * len(rows)).astype(np.int64)
    return np.split(rows, borders)


def equal_sizes(num_examples: int, num_clients: int) -> list[int]:
    """Returns the sizes of clients, which differ by at most one.

    Example:
      >>> equal_sizes(8, 3)
      [3, 3, 2]
    """
    share, rest = divmod(num_examples, num_clients)
    return [share + (i < rest) for i in range(num_clients)]


def sizes_in_proportion(
    num_examples: int, weights: np.ndarray, min_examples: int = 0
) -> np.ndarray:
    """Returns [clients] int64: min_examples each, and the rest in proportion to the weights.

    Rounded by largest remainders (Hamilton's method), so that the sum is exact and every
    size is less than 1 from its share.

    Example:
      >>> sizes_in_proportion(10, np.array([4.0, 2.0, 1.0]), min_examples=1).tolist()
      [5, 3, 2]
    """
    shares = weights / weights.sum() * (num_examples - min_examples * len(weights))
    sizes = np.floor(shares).astype(np.int64)
    missing = num_examples - min_examples * len(weights) - int(sizes.sum())
    sizes[np.argsort(sizes - shares, kind="stable")[:missing]] += 1
    return sizes + min_examples


def cut(rows: np.ndarray, sizes: Any) -> list[np.ndarray]:
    """Cuts rows into parts of these sizes; rows beyond their sum are left out."""
    ends = np.cumsum(sizes)
    return np.split(rows[: ends[-1]], ends[:-1])


def until_large_enough(
    draw: Callable[[], list[np.ndarray]], num_clients: int, num_examples: int, min_examples: int
) -> list[np.ndarray]:
    """Draws parts until each has at least `min_examples` rows, at most 100 times."""
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


def checked_labels(labels: Any, name: str = "labels") -> np.ndarray:
    """Returns labels as an array [n] without missing values, or raises ValueError."""
    expected = "one number or one string per example, [n], all of one type"
    try:
        array = np.asarray(labels)
        # Texts of one type have an order; sorting a million of them takes seconds.
        types = {*map(type, array.flat)} if array.dtype.kind == "O" else {str}
        if type(None) in types:
            raise ValueError
        if types not in ({str}, {bytes}):
            np.unique(array)
    except (ValueError, TypeError):  # rows of different lengths, or values without an order
        raise _checks.value_error(name, labels, expected) from None
    if array.ndim != 1 or not len(array):
        hint = f"; use np.argmax({name}, axis=1) if they are one-hot" if array.ndim == 2 else ""
        raise ValueError(
            f"{name} has shape {list(array.shape)}: expected one per example, [n]{hint}"
        )
    missing = array != array if array.dtype.kind in "fcOmM" else np.zeros(0, bool)
    if missing.any():
        row = int(np.argmax(missing))
        kind = "a number" if array.dtype.kind in "fc" else "a value"
        raise ValueError(f"{name}[{row}]={array[row]}: expected {kind}; remove such examples")
    return array


def check_num_clients(num_clients: int, num_examples: int) -> None:
    """Raises ValueError unless num_clients is between 1 and the number of examples."""
    _checks.check_int("num_examples", num_examples)
    what = "the number of examples"
    _checks.check_int("num_clients", num_clients, 1, num_examples, what)


def check_alpha(alpha: float, name: str = "alpha") -> None:
    """Raises ValueError unless alpha is a number above 0."""
    _checks.check_number(name, alpha, above=0, what="such as 0.5")
