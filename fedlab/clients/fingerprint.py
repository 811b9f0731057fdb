"""A hash of clients' data, by which a run recognizes the data that it was started with."""

import hashlib

import numpy as np

HASHED_BYTES = 2**30
"""Columns are hashed as a whole up to this many bytes; see `ClientData.fingerprint`."""
SAMPLED_ROWS = 16
"""So many rows of each further client are hashed."""


def fingerprint(clients, sample) -> str:
    """See `ClientData.fingerprint`.

    Args:
      clients: a `ClientData`.
      sample: the ids of those whose columns are hashed.
    """
    digest = hashlib.sha256(b"fedlab data 1")
    _add_texts(digest, clients.client_ids)
    num_bytes = 0
    for client_id in sample:
        columns = clients[client_id]
        _add_texts(digest, [client_id])
        for name in sorted(columns):
            column = columns[name]
            _add_texts(digest, [name, column.dtype.name, str(column.shape)])
            _add_values(digest, column if num_bytes < HASHED_BYTES else column[_rows(len(column))])
            num_bytes += column.nbytes
    return digest.hexdigest()


def _rows(num_rows):
    """The first, the last, and rows in equal steps between them."""
    return (
        np.unique(np.linspace(0, max(num_rows - 1, 0), SAMPLED_ROWS, dtype=np.int64))
        if num_rows
        else slice(0)
    )


def _add_values(digest, column):
    if column.dtype == object:
        _add_texts(digest, column.flat)
        return
    values = np.ascontiguousarray(column)
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("<"))
    digest.update(values.reshape(-1).view(np.uint8))


def _add_texts(digest, texts):
    """Each with its length, so that ["ab", "c"] differs from ["a", "bc"]."""
    for text in texts:
        data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)}:".encode() + data)
    digest.update(b"end")
