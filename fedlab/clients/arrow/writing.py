"""Writes a folder of clients, one after the other."""

import array
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fedlab import _files
from fedlab.clients import schema as schema_lib
from fedlab.clients.arrow import files
from fedlab.clients.arrow.columns import Layout, View
from fedlab.clients.client_ids import check_id
from fedlab.clients.columns import check_columns, num_bytes
from fedlab.clients.id_index import hash_order
from fedlab.clients.schema import Column
from fedlab.clients.store import form_of

BATCH_BYTES = 2**25
"""The size at which a record batch of examples is written."""

_CLIENT_BYTES = 512  # memory of a waiting client, in addition to its values


def write(
    folder: str | os.PathLike,
    clients: Iterable[tuple[str, Mapping[str, Any]]],
    schema: Mapping[str, Column] | None = None,
) -> None:
    """Writes clients to a new folder, one after the other.

    Memory does not grow with the examples: a record batch and about 150 bytes per client
    are in memory. The folder appears under its name when it is complete.

    Args:
      folder: a path that does not exist.
      clients: pairs (client id, columns), with the columns as for `ClientData`.
      schema: the columns of all clients; by default that of the first 32 MB.

    Raises:
      FileExistsError: the folder exists.
      ValueError: two clients have the same id, a client does not fit the schema, values
        of another kind than numbers and text, or another process writes this folder.

    Example:
      >>> import tempfile
      >>> from fedlab.clients import arrow
      >>> path = pathlib.Path(tempfile.mkdtemp(), "squares")
      >>> write(path, ((f"c{i}", {"x": np.arange(i) ** 2}) for i in range(1, 5)))
      >>> arrow.read(path)["c3"]
      {'x': array([0, 1, 4])}
    """
    with new_folder(folder) as temporary, contextlib.closing(Writer(temporary, schema)) as writer:
        for client_id, columns in clients:
            writer.add(client_id, columns)
        writer.finish()


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A context with an empty folder, which gets the name of `folder` at the end.

    The content reaches the disk before the new name does. A failure leaves no folder
    behind.
    """
    files.check_installed()
    folder = pathlib.Path(folder)
    name = f"folder={str(folder)!r}"
    with _files.explained(name, "choose another folder"):
        if os.path.lexists(folder):
            raise FileExistsError(
                f"{name}: expected a path that does not exist; delete it or choose another"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(folder) as temporary:
            yield temporary
            for file in temporary.iterdir():
                _files.sync(file)
            _files.sync(temporary)
            os.rename(temporary, folder)
            _files.sync(folder.parent)


class Writer:
    """Writes the files of a folder.

    Args:
      folder: an empty folder.
      schema: see `write`.
      batch_bytes: the size at which a record batch is written.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        schema: Mapping[str, Column] | None,
        batch_bytes: int | None = None,
    ):
        self._batch_bytes = BATCH_BYTES if batch_bytes is None else batch_bytes
        self._folder, self._schema = folder, schema
        self._waiting: list[tuple[str, dict[str, np.ndarray]]] = []
        self._waiting_bytes = 0
        self._layouts: list[Layout] = []
        self._file: Any = None
        self._sink: Any = None
        self._fields: Any = None
        self._num_batches = 0
        self._first = ""
        self._ids, self._ends = bytearray(), array.array("q", [0])
        self._hashes = array.array("I")
        # Some of the columns of `files.NUMBERS`, and a flat column of sizes for each open shape.
        self._numbers = {name: array.array("q") for name in list(files.NUMBERS)[:5]}
        self._shapes: dict[str, array.array] = {}

    def add(self, client_id: str, columns: Mapping[str, Any]) -> None:
        """Adds a client."""
        data = check_id(client_id).encode()
        checked = check_columns(columns, f"client {client_id!r}")
        self._first = self._first or client_id
        self._ids += data
        self._ends.append(len(self._ids))
        self._hashes.append(zlib.crc32(data))
        self._waiting.append((client_id, checked))
        self._waiting_bytes += num_bytes(checked) + _CLIENT_BYTES
        if self._waiting_bytes >= self._batch_bytes:
            self._write_batch()

    def finish(self) -> None:
        """Writes what is left, the index, and at last the description."""
        if not self._hashes:
            raise ValueError("clients is empty: expected at least one client; check the source")
        if self._waiting or not self._num_batches:
            self._write_batch()
        self.close()
        self._write_index()
        about = {
            "format": files.FORMAT,
            "version": files.VERSION,
            "num_clients": len(self._hashes),
            "num_examples": sum(self._numbers["num_examples"]),
            "columns": {layout.name: layout.to_json() for layout in self._layouts},
            "files": {
                files.EXAMPLES: {"bytes": (self._folder / files.EXAMPLES).stat().st_size},
                files.CLIENTS: {
                    "bytes": (self._folder / files.CLIENTS).stat().st_size,
                    "crc32": files.checksum(self._folder / files.CLIENTS),
                },
            },
        }
        text = json.dumps({**about, "crc32": files.checksum_of(about)}, indent=1)
        (self._folder / files.ABOUT).write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Closes the file of examples."""
        if self._file is not None:
            self._file.close()
            self._sink.close()
            self._file = None

    def _write_batch(self) -> None:
        import pyarrow as pa

        clients, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._schema is None:
            self._schema = schema_lib.decide((id_, form_of(columns)) for id_, columns in clients)
        cast = [
            (client_id, schema_lib.cast(self._schema, columns, client_id, self._first))
            for client_id, columns in clients
        ]
        if not self._layouts:
            self._layouts = [
                Layout.of(name, column, (columns[name] for _, columns in cast))
                for name, column in self._schema.items()
            ]
        columns = [
            layout.pack([(client_id, columns[layout.name]) for client_id, columns in cast])
            for layout in self._layouts
        ]
        if self._file is None:
            self._fields = pa.schema([layout.field() for layout in self._layouts])
            self._sink = pa.OSFile(str(self._folder / files.EXAMPLES), "wb")
            self._file = pa.ipc.new_file(self._sink, self._fields)
        self._file.write_batch(pa.record_batch(columns, schema=self._fields))
        views = [View(layout, column) for layout, column in zip(self._layouts, columns)]
        row, numbers = 0, self._numbers
        for _, arrays in cast:
            num_rows = len(arrays[self._layouts[0].name])
            checksum, size = 0, 0
            for layout, view in zip(self._layouts, views):
                shape = arrays[layout.name].shape[1:]
                checksum = view.check(row, num_rows, shape, checksum)
                size += view.num_bytes(row, num_rows, shape)
                if None in layout.shape:
                    self._shapes.setdefault(layout.name, array.array("q")).extend(shape)
            values = num_rows, size, self._num_batches, row, checksum
            for name, value in zip(numbers, values):
                numbers[name].append(value)
            row += num_rows
        self._num_batches += 1

    def _write_index(self) -> None:
        import pyarrow as pa

        hashes, places = hash_order(np.frombuffer(self._hashes, np.uint32))
        self._check_distinct(hashes, places)
        size = len(hashes)
        offsets = pa.py_buffer(self._ends)
        arrays = {
            "client_id": pa.LargeStringArray.from_buffers(size, offsets, pa.py_buffer(self._ids)),
            **{
                name: np.array(values, files.NUMBERS[name])
                for name, values in self._numbers.items()
            },
            "hash": hashes,
            "place": places,
        }
        for layout in self._layouts:
            if None in layout.shape:
                sizes = pa.array(np.frombuffer(self._shapes[layout.name], np.int64))
                arrays[files.shape_of(layout)] = pa.FixedSizeListArray.from_arrays(
                    sizes, len(layout.shape)
                )
        batch = pa.record_batch([pa.array(values) for values in arrays.values()], [*arrays])
        with (
            pa.OSFile(str(self._folder / files.CLIENTS), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as file,
        ):
            file.write_batch(batch)

    def _check_distinct(self, hashes: np.ndarray, places: np.ndarray) -> None:
        """Raises ValueError if two clients have the same id."""
        same = np.flatnonzero(hashes[1:] == hashes[:-1])
        for first in np.unique(hashes[same]):
            seen: set[bytes] = set()
            for place in places[hashes == first].tolist():
                data = bytes(self._ids[self._ends[place] : self._ends[place + 1]])
                if data in seen:
                    raise ValueError(
                        f"client id {data.decode()!r} occurs twice: expected unique ids; merge or "
                        "rename the clients"
                    )
                seen.add(data)


@contextlib.contextmanager
def _unfinished(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A context with an empty folder beside another, which only this process writes.

    A folder that a killed process has left is emptied. What has not been renamed at the
    end is removed.
    """
    temporary = folder.with_name(f"{folder.name}.unfinished")
    while True:
        temporary.mkdir(exist_ok=True)
        lock = os.open(temporary, os.O_RDONLY)
        try:
            # The system releases the lock when the process ends, even by SIGKILL.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ValueError(
                f"{temporary} is in use: another process writes {folder}; wait for it or choose "
                "another folder"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(temporary), os.fstat(lock)):
                break
        os.close(lock)  # it was renamed or removed before the lock was held
    try:
        for left in temporary.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        os.close(lock)
