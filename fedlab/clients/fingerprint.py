"""A hash of clients' data, which shows whether a run is resumed with the same data."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

HASHED_BYTES = 2**30
"""All values are hashed up to this many bytes; see `ClientData.fingerprint`."""
SAMPLED_ROWS = 16
"""The number of rows that are hashed of each further client."""


def fingerprint(client_ids: Iterable[str], columns_of: Any, sample: Iterable[str]) -> str:
    """Returns a hash of clients' data; see `ClientData.fingerprint`.

    Args:
      client_ids: all client ids.
      columns_of: client id -> the client's columns, such as a `ClientData`.
      sample: the ids of the clients whose columns are hashed.
    """
    digest = hashlib.sha256(b"fedlab data 1")
    _add_texts(digest, client_ids)
    num_bytes = 0
    for client_id in sample:
        columns = columns_of[client_id]
        _add_texts(digest, [client_id])
        for name in sorted(columns):
            column = columns[name]
            _add_texts(digest, [name, column.dtype.name, str(column.shape)])
            _add_values(digest, column if num_bytes < HASHED_BYTES else column[_rows(len(column))])
            num_bytes += column.nbytes
    return digest.hexdigest()


def _rows(num_rows: int) -> Any:
    """The first row, the last one, and rows in equal steps between them."""
    if not num_rows:
        return slice(0)
    return np.unique(np.linspace(0, num_rows - 1, SAMPLED_ROWS, dtype=np.int64))


def _add_values(digest: Any, column: np.ndarray) -> None:
    if column.dtype == object:
        _add_texts(digest, column.flat)
        return
    values = np.ascontiguousarray(column)
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("<"))
    digest.update(values.reshape(-1).view(np.uint8))


def _add_texts(digest: Any, texts: Iterable[Any]) -> None:
    """Adds texts with their lengths, so that ["ab", "c"] differs from ["a", "bc"]."""
    for text in texts:
        data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)}:".encode() + data)
    digest.update(b"end")
