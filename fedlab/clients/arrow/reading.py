"""Reads a folder of clients, whose files are memory-mapped."""

import contextlib
import functools
import mmap
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fedlab import _files, _json
from fedlab.clients.arrow import files
from fedlab.clients.arrow.columns import Layout, View
from fedlab.clients.client_data import ClientData
from fedlab.clients.id_index import IdIndex, IndexedIds
from fedlab.clients.schema import Column
from fedlab.clients.store import Form, Store

MAPPED_BYTES = 2**28
"""How much of a file stays mapped into the process at most: 256 MiB."""

_OPEN_BATCHES = 1024
_AROUND_BYTES = 2**21  # what Linux maps around a page at most


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
        files.check_installed()
        self._path = pathlib.Path(folder)
        with _files.explained(f"folder={str(folder)!r}", "see ClientData.save"):
            about = _read_about(self._path)
            with self._damage("cannot be read"):
                self._layouts = [Layout.from_json(*item) for item in about["columns"].items()]
                self.schema = {layout.name: layout.column for layout in self._layouts}
                _check_file(
                    self._path / files.EXAMPLES, about["files"][files.EXAMPLES], contents=False
                )
                _check_file(
                    self._path / files.CLIENTS, about["files"][files.CLIENTS], contents=True
                )
                self._examples = _MappedFile(self._path / files.EXAMPLES)
                self._index = _Index(_MappedFile(self._path / files.CLIENTS), self._layouts)
        self.client_ids: IndexedIds = IndexedIds(self._index.ids)
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
            for name, dtype in files.NUMBERS.items()
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
                columns[files.shape_of(layout)].flatten().buffers()[1],
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


def _read_about(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what clients.json says."""
    file = folder / files.ABOUT
    expected = "expected a folder that ClientData.save has written"
    if not folder.is_dir():
        error = NotADirectoryError if folder.exists() else FileNotFoundError
        raise error(f"folder={str(folder)!r}: {expected}; check the path")
    try:
        about = _json.read(file, 10)
    except FileNotFoundError:
        raise ValueError(
            f"folder={str(folder)!r} has no {files.ABOUT}: {expected}; check the path"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{file} is damaged ({error}): {expected}; restore it from a copy or save "
            "the clients again"
        ) from None
    if not isinstance(about, dict) or about.get("format") != files.FORMAT:
        raise ValueError(f"{file} does not describe clients: {expected}; check the path")
    if about.get("version") != files.VERSION:
        raise ValueError(
            f"{file} has version {about.get('version')!r:.60}: expected {files.VERSION}; use the "
            "version of fedlab that has written it"
        )
    if about.pop("crc32", None) != files.checksum_of(about):
        raise ValueError(
            f"{file} is damaged (it has another checksum): {expected}; restore it from "
            "a copy or save the clients again"
        )
    return about


def _check_file(file: pathlib.Path, about: Mapping[str, Any], contents: bool) -> None:
    size = file.stat().st_size
    if size != about["bytes"]:
        raise ValueError(f"{file.name} has {size} bytes and had {about['bytes']}")
    if contents and files.checksum(file) != about["crc32"]:
        raise ValueError(f"{file.name} has another checksum than when it was saved")
