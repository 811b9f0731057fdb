"""Writes a folder of clients from rows in any order, which need not fit into memory."""

import contextlib
import os
import pathlib
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.arrow.reading import StoredClients
from fedlab.clients.arrow.writing import Writer, new_folder
from fedlab.clients.columns import check_columns, num_rows
from fedlab.clients.partitioners.natural import natural
from fedlab.clients.schema import Column

BUFFERED_BYTES = 2**26
"""How much is in memory while the rows are sorted into buckets: 64 MiB, and a piece."""

_ID = "\0client"  # no name of a column


def write_rows(
    folder: str | os.PathLike,
    pieces: Iterable[tuple[Any, Mapping[str, Any]]],
    *,
    num_buckets: int = 64,
) -> None:
    """Writes the clients of rows in any order to a new folder.

    ```
    for each piece: append each row to bucket CRC-32(client id) mod num_buckets, on disk
    for each bucket: read it, and write its clients
    ```

    A piece, a bucket and about 150 bytes per client are in memory. The buckets need as
    much disk as the result. Clients are in the order of the buckets. Within a bucket they
    are in the order of their first rows. The rows of a client stay in their order.

    Args:
      folder: a path that does not exist.
      pieces: pairs (client ids [n], columns name -> [n, ...]), such as the record batches
        of a large Parquet file. Ids as for `fedlab.partitioners.natural`. All pieces have
        the columns, dtypes and shapes of rows of the first one.
      num_buckets: 1 to 4096. Use enough that each bucket fits into memory.

    Raises:
      FileExistsError: the folder exists.
      ValueError: there is no row, a piece has other columns than the first one, or an id
        is missing.

    Example:
      >>> import tempfile
      >>> from fedlab.clients import arrow
      >>> path = pathlib.Path(tempfile.mkdtemp(), "users")
      >>> write_rows(path, [([7, 8, 7], {"x": [0, 1, 2]}), ([8, 9], {"x": [3, 4]})])
      >>> sorted(arrow.read(path)), arrow.read(path)["8"]
      (['7', '8', '9'], {'x': array([1, 3])})
    """
    _checks.check_int("num_buckets", num_buckets, 1, 4096)
    with new_folder(folder) as temporary:
        paths = [temporary / f"bucket{i}" for i in range(num_buckets)]
        schema = _distribute(pieces, paths)
        with contextlib.closing(Writer(temporary, schema)) as writer:
            for path in filter(pathlib.Path.exists, paths):
                for client_id, columns in _clients_of(path):
                    writer.add(client_id, columns)
                shutil.rmtree(path)
            writer.finish()


def _distribute(
    pieces: Iterable[tuple[Any, Mapping[str, Any]]], paths: list[pathlib.Path]
) -> dict[str, Column]:
    """Appends the rows of all pieces to the buckets; returns the schema."""
    schema: dict[str, Column] = {}
    buckets: dict[int, Writer] = {}
    with contextlib.ExitStack() as stack:
        for number, (ids, given) in enumerate(pieces):
            owner = f"piece {number}"
            columns = check_columns(given, owner)
            if not len(ids) and not num_rows(columns):
                continue
            partition = natural(ids)
            if len(ids) != num_rows(columns):
                raise ValueError(
                    f"{owner} has {len(ids)} client ids and {num_rows(columns)} rows: expected as "
                    "many of both"
                )
            form = {
                name: Column(array.dtype.newbyteorder("="), array.shape[1:])
                for name, array in columns.items()
            }
            schema = schema or form
            if form != schema:
                raise ValueError(
                    f"{owner} has the columns {_shown(form)}: expected {_shown(schema)} as in the "
                    "first piece; convert the columns"
                )
            names, rows_of = np.empty([len(ids)], object), {}
            for client_id, rows in partition.items():
                names[rows] = client_id
                bucket = zlib.crc32(client_id.encode()) % len(paths)
                rows_of.setdefault(bucket, []).append(rows)
            for bucket, parts in rows_of.items():
                if bucket not in buckets:
                    paths[bucket].mkdir()
                    like = {_ID: Column(np.dtype(object), ()), **schema}
                    writer = Writer(paths[bucket], like, BUFFERED_BYTES // len(paths))
                    buckets[bucket] = stack.enter_context(contextlib.closing(writer))
                rows = np.sort(np.concatenate(parts))
                part = {name: array[rows] for name, array in columns.items()}
                buckets[bucket].add(owner, {_ID: names[rows], **part})
        if not schema:
            raise ValueError("pieces have no rows: expected at least one; check the data source")
        for writer in buckets.values():
            writer.finish()
    return schema


def _clients_of(path: pathlib.Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The clients of a bucket with their columns."""
    stored = StoredClients(path)
    pieces = [stored.columns(place) for place in range(len(stored.client_ids))]
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    for client_id, rows in natural(columns.pop(_ID)).items():
        yield client_id, {name: array[rows] for name, array in columns.items()}


def _shown(schema: Mapping[str, Column]) -> str:
    return ", ".join(f"{name}: {dtype} {list(shape)}" for name, (dtype, shape) in schema.items())
