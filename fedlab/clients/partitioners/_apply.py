"""Applies partitioners to columns, and makes clients of them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.columns import check_columns, num_rows
from fedlab.clients.partitioners._method import Partition


def partition(
    columns: Mapping[str, Any], partitioner: Callable[[Any], Any] | Mapping[str, Any]
) -> Partition:
    """Applies a partitioner to columns, and checks the rows.

    Args:
      columns: name -> array [n, ...].
      partitioner: a `Partitioner`, another function columns -> partition, or a
        partition.

    Returns:
      client_id -> int64 [n], rows of the columns.

    Raises:
      TypeError: the partitioner is something else, or returns something else.
      ValueError: something in the place of rows is not row numbers.

    Example:
      >>> from fedlab.clients import partitioners
      >>> columns = {"x": np.arange(4.0), "writer": np.array(["ann", "bob", "ann", "bob"])}
      >>> partition(columns, partitioners.natural("writer"))
      {'ann': array([0, 2]), 'bob': array([1, 3])}
    """
    return _checked(check_columns(columns), partitioner)


def clients(
    columns: Mapping[str, Any], partition: Mapping[str, Any] | Callable[[Any], Any]
) -> ClientData:
    """Makes a `ClientData` of columns and a partition of their rows.

    Args:
      columns: name -> array [n, ...].
      partition: client_id -> rows, or a function of the columns that returns it, such as
        a `Partitioner`.

    Example:
      >>> from fedlab.clients.partitioners import natural
      >>> columns = {"x": np.arange(4.0), "y": np.array([0, 1, 0, 1])}
      >>> clients(columns, natural(columns["y"]))["1"]
      {'x': array([1., 3.]), 'y': array([1, 1])}
    """
    arrays = check_columns(columns)
    rows = _checked(arrays, partition)
    return ClientData(
        rows, lambda client_id: {name: column[rows[client_id]] for name, column in arrays.items()}
    )


def _checked(columns: dict[str, np.ndarray], partitioner: Any) -> Partition:
    found = partitioner(columns) if callable(partitioner) else partitioner
    if not isinstance(found, Mapping):
        if callable(partitioner):
            result = "what the partitioner returned"
            raise _checks.type_error(result, found, "a dict client_id -> rows")
        expected = "such as fedlab.partitioners.uniform(num_clients=10, seed=0)"
        raise _checks.type_error(
            "the partitioner", found, f"a function of the columns, {expected}, or its result"
        )
    num_examples = num_rows(columns)
    partition: Partition = {}
    for client_id, rows in found.items():
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
        key = str(client_id) if _checks.is_int(client_id) else client_id
        partition[key] = rows.astype(np.int64, copy=False).reshape(-1)
    return partition
