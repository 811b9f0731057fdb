"""Columns in Arrow: how they are laid out in a record batch, and read without a copy.

| column | Arrow type |
| --- | --- |
| one number per row | the number's type; bool is uint8, and types that Arrow lacks, such as bfloat16, are integers of the same bits |
| rows of one shape | fixed_size_list of its elements |
| rows whose shape differs between clients | large_list of its elements |
| str, bytes | large_string, large_binary; or lists of them as above |

Every value is read back with the same bits.
"""  # noqa: E501

import functools
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab.clients.schema import Column

_NATIVE = frozenset("int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()) | frozenset(
    "float16 float32 float64".split()
)
_TEXTS = {"str": str, "bytes": bytes}


class Layout(NamedTuple):
    """How one column is laid out.

    Attributes:
      name: the column's name.
      dtype: its NumPy dtype; object for text.
      shape: the shape of a row; None for sizes in which clients differ.
      text: "str" or "bytes" for text, otherwise "".
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]
    text: str = ""

    @classmethod
    def of(cls, name: str, column: Column, arrays: Iterable[np.ndarray]) -> "Layout":
        """Chooses the layout of a column.

        Args:
          name: the column's name.
          column: its dtype and shape in all clients.
          arrays: the column of some clients, which shows whether a text is str or bytes.

        Raises:
          ValueError: values of this dtype cannot be stored.
        """
        dtype, shape = column
        if dtype.hasobject:
            first = next((array.flat[0] for array in arrays if array.size), "")
            text = "bytes" if isinstance(first, bytes) else "str"
            return cls(name, dtype, shape, text)
        if dtype.names or dtype.subdtype or dtype.itemsize not in (1, 2, 4, 8, 16):
            raise ValueError(
                f"column {name!r} has dtype {dtype}: expected numbers of at most 16 bytes, str or "
                "bytes; convert it with ClientData.map"
            )
        return cls(name, dtype, shape)

    def to_json(self) -> dict[str, Any]:
        """Returns the layout as a JSON value."""
        # The name of bfloat16 says more than NumPy's string for it, "<V2".
        dtype = self.dtype.name if self.dtype.kind == "V" else self.dtype.str
        return {"dtype": self.text or dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, name: str, value: Any) -> "Layout":
        """Returns a layout from its JSON value.

        Raises:
          ValueError, TypeError, KeyError: it is not one.
        """
        shape = tuple(None if size is None else int(size) for size in value["shape"])
        if value["dtype"] in _TEXTS:
            return cls(name, np.dtype(object), shape, value["dtype"])
        return cls.of(name, Column(_dtype(value["dtype"]), shape), ())

    @property
    def column(self) -> Column:
        """The column's dtype and shape."""
        return Column(self.dtype, self.shape)

    @property
    def is_open(self) -> bool:
        """Whether a row has as many elements as its offsets say."""
        return None in self.shape or self._width == 0

    @property
    def _width(self) -> int:
        """The number of stored elements of a row."""
        return math.prod(size or 0 for size in self.shape) * self._parts

    @property
    def _parts(self) -> int:
        """The number of stored elements of a value."""
        return 2 if self.dtype.itemsize == 16 and not self.text else 1

    @property
    def _stored(self) -> np.dtype:
        """The dtype of the stored elements."""
        if self.dtype.name in _NATIVE:
            return self.dtype.newbyteorder("=")
        return np.dtype(f"uint{8 * self.dtype.itemsize // self._parts}")

    def arrow_type(self) -> Any:
        """Returns the column's Arrow type."""
        import pyarrow as pa

        if self.text:
            element = pa.large_string() if self.text == "str" else pa.large_binary()
        else:
            element = pa.from_numpy_dtype(self._stored)
        if self.is_open:
            return pa.large_list(element)
        return element if self._is_flat else pa.list_(element, self._width)

    def field(self) -> Any:
        """Returns the column's Arrow field, which says the NumPy dtype and shape as well."""
        import pyarrow as pa

        about = {key: json.dumps(value) for key, value in self.to_json().items()}
        return pa.field(self.name, self.arrow_type(), nullable=False, metadata=about)

    @property
    def _is_flat(self) -> bool:
        return not self.shape and self._parts == 1

    def pack(self, clients: Sequence[tuple[str, np.ndarray]]) -> Any:
        """Returns the column of several clients, one after the other, as an Arrow array.

        Args:
          clients: (client id, array [n, ...] of the layout's dtype and shape).

        Raises:
          ValueError: a text column has other values; the message names the client.
        """
        import pyarrow as pa

        flat = [array.reshape(-1) for _, array in clients]
        if self.text:
            for client_id, array in zip((client_id for client_id, _ in clients), flat):
                self._check_texts(client_id, array)
            kind = pa.large_string() if self.text == "str" else pa.large_binary()
            elements = pa.array(np.concatenate(flat), kind)
        else:
            values = np.concatenate(flat).astype(self.dtype.newbyteorder("="), copy=False)
            elements = pa.array(values.view(self._stored))
        if self.is_open:
            widths = [
                np.full(len(array), math.prod(array.shape[1:]) * self._parts)
                for _, array in clients
            ]
            offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *widths]), dtype=np.int64)
            return pa.LargeListArray.from_arrays(pa.array(offsets), elements)
        if self._is_flat:
            return elements
        return pa.FixedSizeListArray.from_arrays(elements, self._width)

    def _check_texts(self, client_id: str, texts: np.ndarray) -> None:
        expected = _TEXTS[self.text]
        for value in texts:
            if not isinstance(value, expected):
                raise ValueError(
                    f"client {client_id!r} has a {type(value).__name__} in column {self.name!r}: "
                    f"expected {self.text} in every row of every client; convert it with "
                    "ClientData.map"
                )
            if expected is str:
                try:
                    value.encode()
                except UnicodeEncodeError:
                    raise ValueError(
                        f"client {client_id!r} has the text {value!r:.60} in column "
                        f"{self.name!r}: expected valid Unicode, not half of a surrogate pair; "
                        "replace it with ClientData.map"
                    ) from None


class View:
    """A column of a record batch.

    Args:
      layout: the column's layout.
      array: the Arrow array.

    Raises:
      ValueError: the array has another type, or missing values.
    """

    def __init__(self, layout: Layout, array: Any):
        if array.type != layout.arrow_type() or array.offset or array.null_count:
            raise ValueError(f"column {layout.name!r} is {array.type} with other values")
        self._layout, self._num_rows = layout, len(array)
        self._ends: np.ndarray | None = None
        if layout.is_open:
            self._ends = _numbers(array.offsets, np.dtype(np.int64))
            array = array.values
        elif not layout._is_flat:
            array = array.flatten()
        if array.null_count:
            raise ValueError(f"column {layout.name!r} has missing values")
        if layout.text:
            _, offsets, data = array.buffers()
            self._texts = np.frombuffer(offsets, np.int64, len(array) + 1)
            self._data = np.frombuffer(data or b"", np.uint8)
        else:
            self._values = _numbers(array, layout._stored).view(layout.dtype)

    def read(self, first: int, num_rows: int, shape: Sequence[int]) -> np.ndarray:
        """Returns some rows as a read-only array. Numbers are not copied.

        Args:
          first: the first row.
          num_rows: how many.
          shape: the shape of a row.
        """
        begin, end = self._elements(first, num_rows, shape)
        shape = num_rows, *shape
        if not self._layout.text:
            return self._values[begin:end].reshape(shape)
        import pyarrow as pa

        kind = pa.large_string() if self._layout.text == "str" else pa.large_binary()
        offsets = pa.py_buffer(self._texts[begin : end + 1])
        buffers = [None, offsets, pa.py_buffer(self._data)]
        texts = pa.Array.from_buffers(kind, end - begin, buffers)
        result = texts.to_numpy(zero_copy_only=False).astype(object, copy=False).reshape(shape)
        result.flags.writeable = False
        return result

    def check(self, first: int, num_rows: int, shape: Sequence[int], checksum: int = 0) -> int:
        """Adds some rows to a CRC-32, and checks that they can be read.

        Raises:
          ValueError: they are outside of the column.
        """
        begin, end = self._elements(first, num_rows, shape)
        if not self._layout.text:
            return _add(checksum, self._values[begin:end])
        offsets = self._texts[begin : end + 1]
        sizes = np.diff(offsets)
        if (
            len(offsets) != end - begin + 1
            or not 0 <= offsets[0] <= offsets[-1] <= len(self._data)
            or (sizes < 0).any()
        ):
            raise ValueError("its texts are outside of the file")
        return _add(_add(checksum, sizes), self._data[offsets[0] : offsets[-1]])

    def num_bytes(self, first: int, num_rows: int, shape: Sequence[int]) -> int:
        """Returns the size of some rows in memory, as `fedlab.clients.columns.num_bytes`."""
        begin, end = self._elements(first, num_rows, shape)
        if not self._layout.text:
            return (end - begin) * self._layout.dtype.itemsize
        return (end - begin) * 72 + int(self._texts[end] - self._texts[begin])

    def _elements(self, first: int, num_rows: int, shape: Sequence[int]) -> tuple[int, int]:
        """The values of some rows: (first, last + 1)."""
        if not 0 <= first <= first + num_rows <= self._num_rows:
            raise ValueError("its rows are outside of the file")
        parts, width = self._layout._parts, math.prod(shape)
        if self._ends is None:
            return first * width, (first + num_rows) * width
        begin, end = (int(self._ends[row]) // parts for row in (first, first + num_rows))
        if not 0 <= begin or end - begin != num_rows * width:
            raise ValueError("its rows have another shape")
        return begin, end


def _add(checksum: int, values: np.ndarray) -> int:
    """The CRC-32 of what `checksum` is of, and then of these values."""
    data: Any = values.view(np.uint8)
    return zlib.crc32(data, checksum)


def _numbers(array: Any, dtype: np.dtype) -> np.ndarray:
    """The numbers of an Arrow array, not copied and read-only."""
    data = array.buffers()[1]
    return np.frombuffer(data if data is not None and data.size else b"", dtype, len(array))


@functools.cache
def _dtype(name: str) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # noqa: F401  (which makes the names of its types known to NumPy)

        return np.dtype(name)
