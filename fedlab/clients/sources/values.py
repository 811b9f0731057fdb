"""The columns of tables as NumPy arrays, with a mark on the rows that are not valid.

A row is not valid if its value is missing (null, NaN, an empty cell of a CSV file) or of
another type than most values of the column: a text among numbers, or a list among texts.
"""

import datetime
import decimal
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedlab import _extras
from fedlab.clients.sources import images

if TYPE_CHECKING:
    import pyarrow as pa


class Values(NamedTuple):
    """A column of a table.

    Attributes:
      array: [n, ...], with any value in rows that are not valid. Texts are an object
        array.
      kind: "number", "text" or "list", or what the type is called.
      missing: [n] bool, the rows without a value.
      other_type: [n] bool, the rows with a value of another type.
      other_length: [n] bool, the rows with a list of another length.
    """

    array: np.ndarray
    kind: str
    missing: np.ndarray
    other_type: np.ndarray
    other_length: np.ndarray


class Column(NamedTuple):
    """A column as it was read.

    Attributes:
      values: an Arrow array with null for missing values; or a NumPy array [n, ...] of
        numbers.
      other_type: [n] bool, the rows whose value was of another type and is null; None
        for no such row.
      raw: [n], the values before they became null, for error messages.
    """

    values: "pa.Array | pa.ChunkedArray | np.ndarray"
    other_type: np.ndarray | None = None
    raw: Sequence[Any] = ()


def arrow() -> Any:
    """Returns the module pyarrow.

    Raises:
      ModuleNotFoundError: it is not installed; the message says what to do.
    """
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise _extras.error("tables need", "pyarrow") from None
    return pyarrow


def to_values(column: Column, owner: str, image_size: tuple[int, int] | None = None) -> Values:
    """Returns a column as arrays.

    ```
    Arrow                        NumPy
    integers, floats, bool       the same dtype
    decimal                      float64
    text, categories of text     object, str
    binary                       object, bytes
    date, time stamp             int64, microseconds since 1970
    lists of equal length        [n, length, ...]
    struct of bytes and path     [n, height, width, channels] uint8: an encoded image
    ```

    Args:
      column: the column as it was read.
      owner: what to call it in error messages, such as "ratings.csv: column 'age'".
      image_size: (height, width) that images are resized to.

    Raises:
      ValueError: the type is not supported.

    Example:
      >>> import pyarrow as pa
      >>> values = to_values(Column(pa.array([1.5, None])), "a.csv: column 'age'")
      >>> values.missing.tolist(), values.kind
      ([False, True], 'number')
    """
    if isinstance(column.values, np.ndarray):
        values = _of_numbers(column.values)
    else:
        pa = arrow()
        chunked = column.values
        whole = chunked.combine_chunks() if isinstance(chunked, pa.ChunkedArray) else chunked
        if isinstance(whole, pa.ChunkedArray):  # text of more than 2 GiB
            whole = pa.concat_arrays(whole.cast(pa.large_string()).chunks)
        values = _of_arrow(whole, owner, image_size)
    if column.other_type is None:
        return values
    return values._replace(
        missing=values.missing & ~column.other_type, other_type=column.other_type
    )


def of_objects(values: Sequence[Any], missing: np.ndarray | None = None) -> Column:
    """Returns a column of Python objects, of which the most frequent type is that of the column.

    Args:
      values: [n] objects.
      missing: [n] bool, values that are missing beside None; by default, float NaN.

    Example:
      >>> of_objects([1, "two", 3.5, None]).other_type.tolist()
      [False, True, False, False]
    """
    pa = arrow()
    if missing is None:
        missing = np.array([v is None or (isinstance(v, float) and v != v) for v in values], bool)
    kinds = [None if gone else _kind(value) for value, gone in zip(values, missing)]
    counts = Counter(kind for kind in kinds if kind is not None)
    if not counts:
        return Column(pa.nulls(len(values)))
    most = counts.most_common(1)[0][0]  # the first of those equally frequent
    other_type = np.array([kind is not None and kind != most for kind in kinds], bool)
    good = [value if kind == most else None for value, kind in zip(values, kinds)]
    if most == "bytes" and all(isinstance(v, bytes) or v is None for v in good):
        return Column(pa.array(good, pa.large_binary()), other_type, values)
    if most == "list" and (stacked := _stacked(good)) is not None:
        return Column(stacked, other_type, values)
    try:
        made = pa.array([v.tolist() if isinstance(v, np.ndarray) else v for v in good])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # Lists of mixed values, or integers beyond 64 bits.
        made, more = _one_by_one(pa, good)
        other_type = other_type | more
    return Column(made, other_type if other_type.any() else None, values)


def of_array(array: np.ndarray) -> Column:
    """Returns a column of a NumPy array [n, ...] of numbers, or of texts and other objects.

    Example:
      >>> of_array(np.array(["a", 5], object)).other_type.tolist()
      [False, True]
    """
    if array.dtype != object:
        return Column(array)
    return of_objects(array.tolist() if array.ndim == 1 else list(array))


def _kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true or false"
    if isinstance(value, (int, float, np.number, decimal.Decimal)):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bytes, bytearray)):
        return "bytes"
    if isinstance(value, (list, tuple, np.ndarray)):
        return "list"
    if isinstance(value, (datetime.date, datetime.datetime, np.datetime64)):
        return "date"
    return type(value).__name__


def _stacked(values: Sequence[Any]) -> np.ndarray | None:
    """Arrays of one shape and dtype as one array, without a detour over lists."""
    if any(not isinstance(v, np.ndarray) or v.dtype.kind not in "biuf" for v in values):
        return None
    if len({(v.shape, v.dtype) for v in values}) > 1:
        return None
    return np.stack(values)


def _one_by_one(pa: Any, values: Sequence[Any]) -> tuple[Any, np.ndarray]:
    """An Arrow array of the first value's type, and the rows that do not have it."""
    first = next(value for value in values if value is not None)
    dtype = pa.scalar(first.tolist() if isinstance(first, np.ndarray) else first).type
    kept, other_type = [], np.zeros(len(values), bool)
    for row, value in enumerate(values):
        try:
            kept.append(pa.scalar(value, dtype).as_py())
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            kept.append(None)
            other_type[row] = True
    return pa.array(kept, dtype), other_type


def _values(array: np.ndarray, kind: str, missing: np.ndarray | None = None) -> Values:
    none = np.zeros(len(array), bool)
    return Values(array, kind, none if missing is None else missing, none, none)


def _of_numbers(array: np.ndarray) -> Values:
    missing = None
    if array.dtype.kind == "f":
        missing = np.isnan(array).reshape(len(array), -1).any(axis=1)
    if array.ndim > 1:
        return _values(array, "list", missing)
    return _values(array, "number" if array.dtype != bool else "true or false", missing)


def _of_arrow(array: Any, owner: str, image_size: tuple[int, int] | None) -> Values:
    pa = arrow()
    import pyarrow.compute as pc

    types, dtype = pa.types, array.type
    if isinstance(array, pa.ExtensionArray):
        return _of_arrow(array.storage, owner, image_size)
    if types.is_dictionary(dtype):
        return _of_arrow(array.dictionary_decode(), owner, image_size)
    missing = np.asarray(array.is_null())
    if types.is_null(dtype):
        return _values(np.zeros(len(array)), "number", missing)
    if types.is_boolean(dtype):
        booleans = array.fill_null(False).to_numpy(zero_copy_only=False)
        return _values(booleans, "true or false", missing)
    if types.is_decimal(dtype):
        array, dtype = array.cast(pa.float64()), pa.float64()
    if types.is_integer(dtype) or types.is_floating(dtype):
        filled = pc.fill_null(array, pa.scalar(0).cast(dtype)) if array.null_count else array
        numbers = _of_numbers(filled.to_numpy(zero_copy_only=False))
        return numbers._replace(missing=numbers.missing | missing)
    if types.is_date(dtype) or types.is_timestamp(dtype):
        times = array.cast(pa.timestamp("us", getattr(dtype, "tz", None))).cast(pa.int64())
        return _values(times.fill_null(0).to_numpy(zero_copy_only=False), "date", missing)
    if is_text(dtype) or types.is_binary(dtype) or types.is_large_binary(dtype):
        texts = np.empty(len(array), object)
        texts[:] = array.to_pylist()
        return _values(texts, "text" if is_text(dtype) else "bytes", missing)
    if types.is_fixed_size_list(dtype) or types.is_list(dtype) or types.is_large_list(dtype):
        return _rectangle(array, missing, owner, image_size)
    if types.is_struct(dtype) and {"bytes", "path"} >= {field.name for field in dtype}:
        return _images(array, missing, owner, image_size)
    raise ValueError(
        f"{owner} has values of the Arrow type {dtype}: expected numbers, texts, dates, or lists "
        "of numbers; convert it, or choose other columns"
    )


def _rectangle(
    array: Any, missing: np.ndarray, owner: str, image_size: tuple[int, int] | None
) -> Values:
    """Lists of equal length, and of lists of equal length, as [n, length, ...]."""
    import pyarrow.compute as pc

    present = array.drop_null() if array.null_count else array
    lengths = np.asarray(pc.list_value_length(present))
    length = int(np.bincount(lengths).argmax()) if len(lengths) else 0
    usual = lengths == length
    if not usual.all():
        present = present.filter(arrow().array(usual))
    rows = np.flatnonzero(~missing)
    other_length = np.zeros(len(array), bool)
    other_length[rows[~usual]] = True
    rows = rows[usual]

    inner = _of_arrow(present.flatten(), owner, image_size)
    shape = [length, *inner.array.shape[1:]]
    stacked = inner.array.reshape(len(rows), *shape)
    if len(rows) < len(array):
        stacked = np.zeros([len(array), *shape], inner.array.dtype)
        stacked[rows] = inner.array.reshape(len(rows), *shape)
    missing = missing.copy()
    missing[rows] = inner.missing.reshape(len(rows), length).any(axis=1)
    other_length[rows] |= inner.other_length.reshape(len(rows), length).any(axis=1)
    kind = {"number": "list", "true or false": "list", "text": "list of texts"}
    made = _values(stacked, kind.get(inner.kind, inner.kind), missing)
    return made._replace(other_length=other_length)


def _images(
    array: Any, missing: np.ndarray, owner: str, image_size: tuple[int, int] | None
) -> Values:
    decoded: list[np.ndarray | None] = []
    missing = missing.copy()
    for row, image in enumerate(array.to_pylist()):
        data = image and (image.get("bytes") or image.get("path"))
        missing[row] = not data
        decoded.append(
            images.decode(data, f"{owner}, row {row}", size=image_size) if data else None
        )
    first = next((each for each in decoded if each is not None), np.zeros([0, 0, 3], np.uint8))
    filled = [np.zeros_like(first) if each is None else each for each in decoded]
    names = [f"row {row}" for row in range(len(filled))]
    return _values(images.stacked(filled, owner, names), "image", missing)


def is_text(dtype: Any) -> bool:
    """Returns whether an Arrow type is one of text."""
    types = arrow().types
    return (
        types.is_string(dtype)
        or types.is_large_string(dtype)
        or getattr(types, "is_string_view", lambda _: False)(dtype)
    )
