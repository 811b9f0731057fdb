"""The schema of clients' data: the names, dtypes and row shapes of the columns of all clients.

Clients may have the same numbers in different dtypes, depending on how they were saved.
What a client trains on must not depend on the other clients of its cohort, so one dtype
is chosen for all clients:

    int8 and int16 -> int16           float32 and float64 -> float64
    uint8 and int8 -> int16           float16 and bfloat16 -> float32

Every value stays exact. If no dtype of the same kind represents all values (uint64 and
int64), or the kinds differ (text, float, integer, bool), an error names the client.
Rows may differ in length but not in their number of dimensions. Clients without
examples, whose arrays have the arbitrary dtype of an empty list, follow the others.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from fedlab.clients.store import Form

_REMEDY = "convert the clients to one form with ClientData.map"
_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float", "c": "complex", "O": "text"}


class Column(NamedTuple):
    """One column of all clients.

    Attributes:
      dtype: a NumPy dtype; object for strings.
      shape: the shape of a row; None for sizes in which clients differ.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...]

    @property
    def is_open(self) -> bool:
        """Whether the shapes of rows differ between clients."""
        return None in self.shape


def decide(forms: Iterable[tuple[str, Form]]) -> dict[str, Column]:
    """Chooses the schema of all clients.

    Args:
      forms: (client id, form of its columns), for one client or more.

    Returns:
      name -> `Column`, in the order of the first client that has examples.

    Raises:
      ValueError: two clients are incompatible; the message names the second one.

    Example:
      >>> ann = Form(1, 1, (("y", np.dtype("int8"), ()),))
      >>> bob = Form(1, 2, (("y", np.dtype("int16"), ()),))
      >>> decide([("ann", ann), ("bob", bob)])
      {'y': Column(dtype=dtype('int16'), shape=())}
    """
    # rows -> the first client that has them. Most clients have the same.
    alike: dict[tuple, str] = {}
    empty: dict[tuple, str] = {}
    for client_id, form in forms:
        (alike if form.num_rows else empty).setdefault(form.rows, client_id)
    kinds = iter((alike or empty).items())
    rows, first = next(kinds)
    schema = {name: Column(dtype.newbyteorder("="), shape) for name, dtype, shape in rows}
    for rows, client_id in kinds:
        _check_names(schema, [name for name, _, _ in rows], client_id, first)
        schema |= {
            name: _both(schema[name], Column(dtype, shape), name, client_id, first)
            for name, dtype, shape in rows
        }
    for rows, client_id in empty.items():
        _check_names(schema, [name for name, _, _ in rows], client_id, first)
    return schema


def cast(
    schema: Mapping[str, Column], columns: Mapping[str, np.ndarray], client_id: str, first: str
) -> dict[str, np.ndarray]:
    """Returns a client's columns with the dtypes and the order of the schema.

    Columns that have the right dtype are not copied.

    Args:
      schema: the result of `decide`.
      columns: the client's columns.
      client_id: the client.
      first: the client that error messages compare it with.

    Raises:
      ValueError: the client, which `decide` did not see, does not fit the schema.
    """
    _check_names(schema, list(columns), client_id, first)
    if not len(next(iter(columns.values()))):
        return {
            name: np.zeros([0, *(size or 0 for size in column.shape)], column.dtype)
            for name, column in schema.items()
        }
    result = {}
    for name, wanted in schema.items():
        array = columns[name]
        if array.dtype == wanted.dtype and array.shape[1:] == wanted.shape:
            result[name] = array
            continue
        if _both(wanted, Column(array.dtype, array.shape[1:]), name, client_id, first) != wanted:
            raise ValueError(
                f"client {client_id!r} has column {name!r} of "
                f"{_describe(array.dtype, array.shape[1:])}: expected values that fit into "
                f"{_describe(*wanted)}, the form of the clients read before the first round; "
                f"{_REMEDY}"
            )
        if array.dtype != wanted.dtype:
            array = array.astype(wanted.dtype)
            array.flags.writeable = False
        result[name] = array
    return result


def _both(one: Column, other: Column, name: str, client_id: str, first: str) -> Column:
    """The column that represents the values of both exactly."""
    dtype = _dtype_of_both(one.dtype, other.dtype)
    if dtype is None or len(one.shape) != len(other.shape):
        expected = "as many dimensions"
        if dtype is None and _kind(one.dtype) == _kind(other.dtype):
            expected = "a dtype that represents the values of both"
        elif dtype is None:
            expected = "one kind of values"
        raise ValueError(
            f"client {client_id!r} has column {name!r} of {_describe(other.dtype, other.shape)}, "
            f"but client {first!r} of {_describe(*one)}: expected {expected} in all clients; "
            f"{_REMEDY}"
        )
    return Column(dtype, tuple(a if a == b else None for a, b in zip(one.shape, other.shape)))


def _dtype_of_both(one: np.dtype, other: np.dtype) -> np.dtype | None:
    """The smallest dtype of the same kind that represents all values of two dtypes, or None."""
    if one == other.newbyteorder("="):
        return one
    if _kind(one) != _kind(other):
        return None
    try:
        both = np.promote_types(one, other)
    except TypeError:  # float16 and bfloat16
        return np.dtype(np.float32)
    return both if _kind(both) == _kind(one) else None


def _kind(dtype: np.dtype) -> str:
    # NumPy's kind of bfloat16 is "V".
    if dtype.name.startswith(("bfloat", "float")):
        return "float"
    return _KINDS.get(dtype.kind, dtype.name)


def _check_names(
    schema: Mapping[str, Column], names: Iterable[str], client_id: str, first: str
) -> None:
    if set(names) != set(schema):
        has, wants = (", ".join(map(repr, each)) for each in (names, schema))
        raise ValueError(
            f"client {client_id!r} has the columns {has}, but client {first!r} has {wants}: "
            f"expected the same columns in all clients; {_REMEDY}"
        )


def _describe(dtype: np.dtype, shape: tuple[int | None, ...]) -> str:
    what = "strings or other objects" if dtype.kind == "O" else str(dtype)
    sizes = ", ".join("*" if size is None else str(size) for size in shape)
    return f"{what} with rows of shape [{sizes}]"
