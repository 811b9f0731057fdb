"""Files of TensorFlow Federated's data sets: HDF5 and SQLite.

HDF5: the group `examples` has a group per client, which has a data set [n, ...] per column.

SQLite: the table `client_metadata` has the columns client_id, split_name, num_examples; the
table `examples` has client_id, split_name, serialized_example_proto (a `tf.train.Example`).
"""

import os
import pathlib
import sqlite3
import threading
import urllib.parse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import files, lazy
from fedlab.clients.sources import roles as roles_lib
from fedlab.clients.sources.source import Source

_SQLITE = b"SQLite format 3\0"
_HDF5 = b"\x89HDF\r\n\x1a\n"
NO_EXAMPLES = "clients without examples"


def read(
    path: str | os.PathLike,
    *,
    split: str | None = None,
    x: roles_lib.Inputs = None,
    y: roles_lib.Inputs = None,
    keep: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of a file of TFF; see `ClientData.from_tff_file`."""
    file = files.existing(path, "an HDF5 or SQLite file of TFF")
    with open(file, "rb") as opened:
        start = opened.read(len(_SQLITE))
    if shapes is not None and not isinstance(shapes, Mapping):
        expected = "a mapping, name of a column -> shape of a row, such as {'pixels': (28, 28)}"
        raise _checks.type_error("shapes", shapes, expected)
    shape_of = {name: _shape(name, shape) for name, shape in (shapes or {}).items()}
    if start == _SQLITE:
        reader: _Hdf5 | _Sqlite = _Sqlite(file, split, shape_of)
    elif start.startswith(_HDF5):
        if split is not None:
            raise _checks.value_error("split", split, "None for an HDF5 file, which has one split")
        reader = _Hdf5(file, shape_of)
    else:
        raise ValueError(
            f"{file.name} is damaged or in another format: expected HDF5 or SQLite, as TFF's data "
            "sets have; unpack a compressed file, or check the path"
        )
    client_ids, skipped = reader.client_ids, {}
    if skip_invalid:
        sizes = [reader.num_examples(client_id) for client_id in client_ids]
        client_ids = [client_id for client_id, size in zip(client_ids, sizes) if size]
        if len(client_ids) < len(sizes):
            skipped[NO_EXAMPLES] = len(sizes) - len(client_ids)
    if not client_ids:
        raise ValueError(f"{file.name} has no clients: expected at least one; check the file")
    source = Source(file.name, len(client_ids) + sum(skipped.values()), skipped)
    return lazy.clients(client_ids, reader.read, source, x=x, y=y, keep=keep)


class _Hdf5:
    def __init__(self, file: pathlib.Path, shapes: Mapping[str, tuple[int, ...]]):
        import h5py

        self._name, self._shapes = file.name, shapes
        self._lock = threading.Lock()
        try:
            opened = h5py.File(file, "r")
            group = opened["examples"]
            self.client_ids = sorted(group)
        except (OSError, KeyError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"{file.name} is damaged or in another format: expected HDF5 with "
                "examples/CLIENT/COLUMN, as TFF's data sets have; check the path"
            ) from error
        self._examples: Any = group

    def num_examples(self, client_id: str) -> int:
        return len(next(iter(self.read(client_id).values())))

    def read(self, client_id: str) -> dict[str, np.ndarray]:
        try:
            with self._lock:
                columns = {name: data[()] for name, data in self._examples[client_id].items()}
            if not columns or any(np.ndim(column) == 0 for column in columns.values()):
                raise ValueError("no columns [n, ...]")
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(
                f"{self._name}, client {client_id!r} is damaged: expected a data set [n, ...] for "
                "each column; get the file again"
            ) from error
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"{self._name}, client {client_id!r} has columns of different lengths {lengths}: "
                "expected equally many rows in each; get the file again"
            )
        for name, shape in self._shapes.items():
            columns[name] = _reshaped(columns, name, shape, self._name)
        return columns


class _Sqlite:
    def __init__(
        self, file: pathlib.Path, split: str | None, shapes: Mapping[str, tuple[int, ...]]
    ):
        self._file, self._name, self._shapes = file, file.name, shapes
        # A connection is used by the thread that made it.
        self._of_thread = threading.local()
        self._kinds: dict[str, Any] | None = None
        try:
            rows = self._query("SELECT client_id, split_name, num_examples FROM client_metadata")
            self._query(
                "SELECT client_id, split_name, serialized_example_proto FROM examples LIMIT 1"
            )
        except sqlite3.Error as error:
            raise ValueError(
                f"{file.name} is damaged or in another format ({error}): expected the tables "
                "client_metadata and examples, as TFF's data sets have; check the path"
            ) from error
        splits = sorted({str(name) for _, name, _ in rows})
        if split is None and len(splits) > 1:
            raise _checks.value_error("split", None, f"one of {', '.join(map(repr, splits))}")
        if split is not None and split not in splits:
            raise _checks.value_error(
                "split", split, f"one of {', '.join(map(repr, splits))}, the splits of {file.name}"
            )
        self._split = split if split is not None or not splits else splits[0]
        self._sizes = {str(client): size for client, name, size in rows if name == self._split}
        counts = Counter(str(client) for client, name, _ in rows if name == self._split)
        if (most := counts.most_common(1)) and most[0][1] > 1:
            raise ValueError(
                f"{file.name} has the client {most[0][0]!r} twice in client_metadata: expected "
                "each client once; get the file again"
            )
        self.client_ids = sorted(self._sizes)

    def num_examples(self, client_id: str) -> int:
        return self._sizes[client_id]

    def read(self, client_id: str) -> dict[str, np.ndarray]:
        owner = f"{self._name}, client {client_id!r}"
        try:
            found = self._query(
                "SELECT serialized_example_proto FROM examples "
                "WHERE client_id = ? AND split_name = ? ORDER BY rowid",
                client_id,
                self._split,
            )
        except sqlite3.Error as error:
            raise ValueError(f"{owner} cannot be read ({error}); get the file again") from error
        if len(found) != self._sizes[client_id]:
            raise ValueError(
                f"{owner} has {len(found)} examples, but client_metadata says "
                f"{self._sizes[client_id]}: expected equally many; get the file again"
            )
        return self._parsed([row[0] for row in found], owner)

    def _parsed(self, serialized: Sequence[bytes], owner: str) -> dict[str, np.ndarray]:
        import tensorflow as tf

        if not serialized:
            raise ValueError(
                f"{owner} has no examples: expected at least one; pass skip_invalid=True to leave "
                "such clients out"
            )
        if self._kinds is None:
            self._kinds = self._features(serialized[0], owner)
        try:
            with tf.device("CPU"):
                parsed = tf.io.parse_example(list(serialized), self._kinds)
            return {name: column.numpy() for name, column in parsed.items()}
        except tf.errors.InvalidArgumentError as error:
            message = " ".join(str(error).split())
            raise ValueError(
                f"{owner} has examples with other features than those of the first client, or of "
                f"other lengths: expected {self._described()}; pass shapes, or get the file again "
                f"({message:.150})"
            ) from error

    def _features(self, serialized: bytes, owner: str) -> dict[str, Any]:
        """How the features of all examples are parsed, as the first example has them."""
        import tensorflow as tf

        try:
            features = tf.train.Example.FromString(serialized).features.feature
        except Exception as error:  # protobuf's error depends on its implementation
            raise ValueError(
                f"{owner} is damaged: expected serialized tf.train.Example; get the file again"
            ) from error
        for name in self._shapes:
            if name not in features:
                raise roles_lib.unknown_column("shapes", name, sorted(features), self._name)
        dtypes = {"bytes_list": tf.string, "float_list": tf.float32, "int64_list": tf.int64}
        found = {}
        for name in sorted(features):
            kind = features[name].WhichOneof("kind")
            length = len(getattr(features[name], kind).value) if kind else 0
            shape = self._shapes.get(name, () if length == 1 else (length,))
            if not kind or int(np.prod(shape)) != length:
                raise ValueError(
                    f"{self._name}: column {name!r} has {length} values per row: expected as many "
                    f"as the shape {list(shape)}; pass another shape"
                )
            found[name] = tf.io.FixedLenFeature(shape, dtypes[kind])
        return found

    def _described(self) -> str:
        kinds = (self._kinds or {}).items()
        return ", ".join(f"{name}: {kind.dtype.name} {list(kind.shape)}" for name, kind in kinds)

    def _query(self, query: str, *values: Any) -> list[tuple]:
        if not hasattr(self._of_thread, "connection"):
            address = f"file:{urllib.parse.quote(str(self._file.absolute()))}?mode=ro"
            self._of_thread.connection = sqlite3.connect(address, uri=True)
        return self._of_thread.connection.execute(query, values).fetchall()


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence):
        raise _checks.value_error(
            f"shapes[{name!r}]", shape, "the shape of a row, such as (28, 28)"
        )
    return tuple(_checks.check_int(f"shapes[{name!r}]", size) for size in shape)


def _reshaped(
    columns: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], owner: str
) -> np.ndarray:
    if name not in columns:
        raise roles_lib.unknown_column("shapes", name, list(columns), owner)
    array = columns[name]
    if array[:1].size != int(np.prod(shape)) and len(array):
        raise _checks.value_error(
            f"shapes[{name!r}]",
            shape,
            f"as many values as the rows of {owner} have, {list(array.shape[1:])}",
        )
    return array.reshape(len(array), *shape)
