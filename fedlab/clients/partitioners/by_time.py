"""Time: each client is a period."""

from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners._shared import check_num_clients, checked_labels


@method("time", required=True)
def by_time(times: Any, num_clients: int) -> Partition:
    """Each client is a period: examples are sorted by time and cut into equal parts.

    Training on the first clients and testing on the last measures the drift over time,
    as in Yao et al. 2022, "Wild-Time: A Benchmark of in-the-Wild Distribution Shift over
    Time", section 3 (Eval-Fix).

    Guarantees: every example belongs to one client; no example of client i is later than
    one of client i + 1; sizes differ by at most one. Examples of the same time are
    divided in the order of their rows if a border falls between them.

    Args:
      times: [n], numbers or datetime64.
      num_clients: 1 to n.

    Returns:
      "client_<i>" -> rows, the earliest client first.

    Raises:
      ValueError: a value out of range, a missing time, or times that are texts.

    Example:
      >>> days = np.array(["2024-03-01", "2024-01-01", "2024-02-01"], "datetime64[D]")
      >>> by_time(days, num_clients=3)
      {'client_0': array([1]), 'client_1': array([2]), 'client_2': array([0])}
    """
    array = checked_labels(times, "times")
    if array.dtype.kind == "O":
        array = _of_objects(array, times)
    if array.dtype.kind not in "iufmM":
        expected = "numbers or datetime64; convert texts with np.array(times, 'datetime64[s]')"
        raise _checks.value_error("times", times, expected)
    check_num_clients(num_clients, len(array))
    order = np.argsort(array, kind="stable")
    parts = np.array_split(order, num_clients)
    return {f"client_{i}": np.sort(rows).astype(np.int64) for i, rows in enumerate(parts)}


def _of_objects(array: np.ndarray, times: Any) -> np.ndarray:
    """Returns objects such as datetime.datetime as an array of numbers or datetime64."""
    if any(isinstance(time, (str, bytes)) for time in array):
        return array
    try:
        converted = np.array(array.tolist())
        return converted if converted.dtype.kind != "O" else array.astype("datetime64[us]")
    except (ValueError, TypeError):
        raise _checks.value_error("times", times, "numbers or datetime64") from None
