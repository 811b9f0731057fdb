"""Clients in a folder of memory-mapped Arrow files, for data that is larger than memory.

| file | content |
| --- | --- |
| `examples.arrow` | the examples, client after client, in record batches of about 32 MB that contain whole clients; see `arrow_columns` |
| `clients.arrow` | one record batch with a row per client: its id, where its examples are, and their CRC-32; and the order of the ids' hashes |
| `clients.json` | the columns, the sizes and CRC-32 of the files, and its own CRC-32 |

Both Arrow files are in the IPC file format, which other programs read as well. Nothing is
read into memory as a whole: an opened folder takes the same memory with a thousand
clients and with millions. A client's numbers are views of the file.
"""  # noqa: E501

import array
import contextlib
import fcntl
import functools
import json
import mmap
import os
import pathlib
import shutil
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fedlab import _files, _json
from fedlab.clients import schema as schema_lib
from fedlab.clients.arrow_columns import Layout, View
from fedlab.clients.client_data import ClientData
from fedlab.clients.client_ids import check_id
from fedlab.clients.columns import check_columns, num_bytes
from fedlab.clients.id_index import IdIndex, IndexedIds, hash_order
from fedlab.clients.schema import Column
from fedlab.clients.store import Form, Store, form_of

BATCH_BYTES = 2**25
"""The size at which a record batch of examples is written."""

MAPPED_BYTES = 2**28
"""How much of a file stays mapped into the process at most: 256 MiB."""

_ABOUT, _CLIENTS, _EXAMPLES = "clients.json", "clients.arrow", "examples.arrow"
_FORMAT = "fedlab clients"
_VERSION = 1
_OPEN_BATCHES = 1024
_CLIENT_BYTES = 512  # what a client that is not yet written takes beside its values
_READ_BYTES = 2**20
_AROUND_BYTES = 2**21  # what Linux maps around a page at most

# One number per client, in the order of the clients; "hash" and "place" in the order of
# the hashes.
_NUMBERS = {
    "num_examples": np.int64,
    "num_bytes": np.int64,
    "batch": np.int32,
    "row": np.int64,
    "checksum": np.uint32,
    "hash": np.uint32,
    "place": np.uint32,
}


def write(
    folder: str | os.PathLike,
    clients: Iterable[tuple[str, Mapping[str, Any]]],
    schema: Mapping[str, Column] | None = None,
) -> None:
    """Writes clients to a new folder, one after the other.

    Memory does not grow with the examples: a record batch and about 60 bytes per client
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
      >>> path = pathlib.Path(tempfile.mkdtemp(), "squares")
      >>> write(path, ((f"c{i}", {"x": np.arange(i) ** 2}) for i in range(1, 5)))
      >>> read(path)["c3"]
      {'x': array([0, 1, 4])}
    """
    _check_installed()
    folder = pathlib.Path(folder)
    name = f"folder={str(folder)!r}"
    with _files.explained(name, "choose another folder"):
        if os.path.lexists(folder):
            raise FileExistsError(
                f"{name}: expected a path that does not exist; delete it or choose another"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(folder) as temporary:
            writer = _Writer(temporary, schema)
            with contextlib.closing(writer):
                for client_id, columns in clients:
                    writer.add(client_id, columns)
                writer.finish()
            for file in temporary.iterdir():
                _files.sync(file)
            _files.sync(temporary)
            os.rename(temporary, folder)
            _files.sync(folder.parent)


def read(folder: str | os.PathLike) -> ClientData:
    """Opens a folder; see `ClientData.open`."""
    stored = StoredClients(folder)
    return ClientData._of_store(stored.client_ids, _ArrowStore(stored))


class StoredClients:
    """An opened folder.

    Args:
      folder: the path.

    Attributes:
      client_ids: the clients' ids, as `IndexedIds`.
      schema: the columns of all clients.

    Raises:
      FileNotFoundError, NotADirectoryError: there is no such folder.
      ValueError: it is not a folder of clients, is damaged, or has a newer format.
    """

    def __init__(self, folder: str | os.PathLike):
        _check_installed()
        self._path = pathlib.Path(folder)
        with _files.explained(f"folder={str(folder)!r}", "see ClientData.save"):
            about = _read_about(self._path)
            with self._damage("cannot be read"):
                self._layouts = [Layout.from_json(*item) for item in about["columns"].items()]
                self.schema = {layout.name: layout.column for layout in self._layouts}
                _check_file(self._path / _EXAMPLES, about["files"][_EXAMPLES], contents=False)
                _check_file(self._path / _CLIENTS, about["files"][_CLIENTS], contents=True)
                self._examples = _MappedFile(self._path / _EXAMPLES)
                self._index = _Index(_MappedFile(self._path / _CLIENTS), self._layouts)
        self.client_ids = IndexedIds(self._index.ids)
        self._checked = bytearray(len(self.client_ids))
        self._batch = functools.lru_cache(_OPEN_BATCHES)(self._open_batch)

    def place(self, client_id: str) -> int:
        """Returns the place of a client's id."""
        place = self._index.ids.find(client_id)
        assert place is not None  # ClientData has checked it
        return place

    def form(self, place: int) -> Form:
        """Returns the form of a client's columns."""
        index = self._index
        rows = tuple(
            (layout.name, layout.dtype, index.shape(layout, place)) for layout in self._layouts
        )
        return Form(index.num_examples[place], index.num_bytes[place], rows)

    def columns(self, place: int) -> dict[str, np.ndarray]:
        """Returns a client's columns; numbers are views of the file.

        Raises:
          ValueError: they are damaged.
        """
        index = self._index
        first, num_rows = index.row[place], index.num_examples[place]
        client_id = index.ids[place]
        self._examples.will_read(index.num_bytes[place])
        with self._damage(f"is damaged at client {client_id!r}"):
            views = self._batch(index.batch[place])
            shapes = [index.shape(layout, place) for layout in self._layouts]
            if not self._checked[place]:
                checksum = 0
                for view, shape in zip(views, shapes):
                    checksum = view.check(first, num_rows, shape, checksum)
                if checksum != index.checksum[place]:
                    raise ValueError("the examples have another checksum than when it was saved")
                self._checked[place] = True
            return {
                layout.name: view.read(first, num_rows, shape)
                for layout, view, shape in zip(self._layouts, views, shapes)
            }

    def _open_batch(self, number: int) -> list[View]:
        batch = self._examples.batch(number)
        if batch.num_columns != len(self._layouts):
            raise ValueError(f"record batch {number} has {batch.num_columns} columns")
        return [View(layout, batch.column(i)) for i, layout in enumerate(self._layouts)]

    @contextlib.contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except _files.DAMAGE as error:
            if isinstance(error, MemoryError):
                raise
            text = getattr(error, "strerror", None) or " ".join(str(error).split())
            if isinstance(error, FileNotFoundError):
                text = f"{pathlib.Path(error.filename).name} is missing"
            raise ValueError(
                f"{self._path} {what} ({text:.200}): expected a folder as ClientData.save writes "
                "it; restore it from a copy or save the clients again"
            ) from None


class _ArrowStore(Store):
    """Reads clients from a folder. Nothing is cached, because the file is in the page cache."""

    def __init__(self, stored: StoredClients):
        super().__init__(self.read)
        self._stored = stored

    def read(self, client_id: str) -> dict[str, np.ndarray]:
        """Returns a client's columns."""
        return self._stored.columns(self._stored.place(client_id))

    def form(self, client_id: str) -> Form:
        """Returns the form of a client's columns, which is in the index."""
        return self._stored.form(self._stored.place(client_id))

    def schema(self) -> dict[str, Column]:
        """Returns the schema, which is in the folder."""
        return self._stored.schema


class _MappedFile:
    """A memory-mapped Arrow file.

    Pages that have been read count as memory of the process until the system needs it.
    They are given back before, at `MAPPED_BYTES`, so that a process that reads all of a
    large file does not look as if it used as much memory.
    """

    def __init__(self, file: pathlib.Path):
        import pyarrow as pa

        with open(file, "rb") as opened:
            self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self._reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
        self._lock = threading.Lock()
        self._read = 0

    def batch(self, number: int) -> Any:
        """Returns a record batch, which is a view of the file."""
        with self._lock:
            return self._reader.get_batch(number)

    def will_read(self, num_bytes: int) -> None:
        """Counts bytes that are about to be read in one place."""
        # The system maps the pages around as well.
        self._read += num_bytes + _AROUND_BYTES
        if self._read > MAPPED_BYTES:
            self._read = 0
            # Views stay valid. What is read again comes from the page cache.
            self._map.madvise(mmap.MADV_DONTNEED)


class _Index:
    """clients.arrow: where each client is."""

    def __init__(self, file: "_MappedFile", layouts: Iterable[Layout]):
        batch = file.batch(0)
        size = batch.num_rows
        columns = dict(zip(batch.schema.names, batch.columns))
        numbers: dict[str, Any] = {
            name: np.frombuffer(columns[name].buffers()[1], dtype, size)
            for name, dtype in _NUMBERS.items()
        }
        _, offsets, text = columns["client_id"].buffers()
        offsets = np.frombuffer(offsets, np.int64, size + 1)
        self.ids = IdIndex(
            offsets, np.frombuffer(text or b"", np.uint8), numbers["hash"], numbers["place"]
        )
        self.num_examples = memoryview(numbers["num_examples"])
        self.num_bytes = memoryview(numbers["num_bytes"])
        self.batch, self.row = memoryview(numbers["batch"]), memoryview(numbers["row"])
        self.checksum = memoryview(numbers["checksum"])
        self._shapes = {
            layout.name: np.frombuffer(
                columns[_shape_of(layout)].flatten().buffers()[1],
                np.int64,
                size * len(layout.shape),
            ).reshape(size, -1)
            for layout in layouts
            if None in layout.shape
        }

    def shape(self, layout: Layout, place: int) -> tuple[int, ...]:
        """The shape of a client's rows in one column."""
        if (shapes := self._shapes.get(layout.name)) is not None:
            return tuple(shapes[place].tolist())
        return layout.shape  # type: ignore[return-value]


class _Writer:
    """Writes the files of a folder.

    Args:
      folder: an empty folder.
      schema: see `write`.
    """

    def __init__(self, folder: pathlib.Path, schema: Mapping[str, Column] | None):
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
        # Some of the columns of `_NUMBERS`, and a flat column of sizes for each open shape.
        self._numbers = {name: array.array("q") for name in list(_NUMBERS)[:5]}
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
        if self._waiting_bytes >= BATCH_BYTES:
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
            "format": _FORMAT,
            "version": _VERSION,
            "num_clients": len(self._hashes),
            "num_examples": sum(self._numbers["num_examples"]),
            "columns": {layout.name: layout.to_json() for layout in self._layouts},
            "files": {
                _EXAMPLES: {"bytes": (self._folder / _EXAMPLES).stat().st_size},
                _CLIENTS: {
                    "bytes": (self._folder / _CLIENTS).stat().st_size,
                    "crc32": _checksum(self._folder / _CLIENTS),
                },
            },
        }
        text = json.dumps({**about, "crc32": _checksum_of(about)}, indent=1)
        (self._folder / _ABOUT).write_text(text, encoding="utf-8")

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
            self._sink = pa.OSFile(str(self._folder / _EXAMPLES), "wb")
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
            **{name: np.array(values, _NUMBERS[name]) for name, values in self._numbers.items()},
            "hash": hashes,
            "place": places,
        }
        for layout in self._layouts:
            if None in layout.shape:
                sizes = pa.array(np.frombuffer(self._shapes[layout.name], np.int64))
                arrays[_shape_of(layout)] = pa.FixedSizeListArray.from_arrays(
                    sizes, len(layout.shape)
                )
        batch = pa.record_batch([pa.array(values) for values in arrays.values()], [*arrays])
        with (
            pa.OSFile(str(self._folder / _CLIENTS), "wb") as sink,
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


def _check_installed() -> None:
    try:
        import pyarrow.ipc  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "ClientData.save and ClientData.open need pyarrow, which is not installed: "
            "pip install pyarrow"
        ) from None


def _shape_of(layout: Layout) -> str:
    return f"shape of {layout.name}"


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
            left.unlink()
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        os.close(lock)


def _read_about(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what clients.json says."""
    expected = "expected a folder that ClientData.save has written"
    if not folder.is_dir():
        error = NotADirectoryError if folder.exists() else FileNotFoundError
        raise error(f"folder={str(folder)!r}: {expected}; check the path")
    try:
        about = _json.read(folder / _ABOUT, 10)
    except FileNotFoundError:
        raise ValueError(
            f"folder={str(folder)!r} has no {_ABOUT}: {expected}; check the path"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{folder / _ABOUT} is damaged ({error}): {expected}; restore it from a copy or save "
            "the clients again"
        ) from None
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise ValueError(f"{folder / _ABOUT} does not describe clients: {expected}; check the path")
    if about.get("version") != _VERSION:
        raise ValueError(
            f"{folder / _ABOUT} has version {about.get('version')!r:.60}: expected {_VERSION}; use "
            "the version of fedlab that has written it"
        )
    if about.pop("crc32", None) != _checksum_of(about):
        raise ValueError(
            f"{folder / _ABOUT} is damaged (it has another checksum): {expected}; restore it from "
            "a copy or save the clients again"
        )
    return about


def _check_file(file: pathlib.Path, about: Mapping[str, Any], contents: bool) -> None:
    size = file.stat().st_size
    if size != about["bytes"]:
        raise ValueError(f"{file.name} has {size} bytes and had {about['bytes']}")
    if contents and _checksum(file) != about["crc32"]:
        raise ValueError(f"{file.name} has another checksum than when it was saved")


def _checksum(file: pathlib.Path) -> int:
    """The CRC-32 of a file, which is read in pieces."""
    checksum = 0
    with open(file, "rb") as opened:
        while piece := opened.read(_READ_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _checksum_of(value: Any) -> int:
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
