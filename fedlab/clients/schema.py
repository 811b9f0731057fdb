"""The one form that the columns of all clients of a federation have: names, dtypes, and the shapes of rows.

Clients may hold the same numbers in different dtypes, because of how each was saved or made. What a client trains on must not depend on
which clients it trains next to, so that the dtype is decided once, for all of them:

    int8 and int16 -> int16      uint8 and int8 -> int16      float32 and float64 -> float64      float16 and bfloat16 -> float32

Every value stays exact. Where no dtype of the same kind holds all values (uint64 and int64), or the kinds differ (text, float,
integer, bool), an error names the client. Rows may differ in length, not in their number of dimensions. Clients without
examples, whose arrays have whatever dtype an empty list has, follow the others.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from fedlab.clients.store import Form

_REMEDY = "bring all clients to one form with ClientData.map"
_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float", "c": "complex", "O": "text"}


class Column(NamedTuple):
    """One column of all clients.

    Attributes:
      dtype: NumPy's; object for texts.
      shape: of a row; None where clients differ.
    """

    dtype: np.dtype
    shape: tuple

    @property
    def is_open(self) -> bool:
        """Whether rows differ in shape from client to client."""
        return None in self.shape


def decide(forms: Iterable[tuple[str, Form]]) -> dict[str, Column]:
    """Decides the columns of a federation.

    Args:
      forms: (client id, what its columns look like) of the clients, one or more.

    Returns:
      name -> `Column`, in the order of the first client that has examples.

    Raises:
      ValueError: two clients do not go together; the second is named.

    Example:
      >>> ints, shorts = Form(1, 1, (("y", np.dtype("int8"), ()),)), Form(1, 2, (("y", np.dtype("int16"), ()),))
      >>> decide([("ann", ints), ("bob", shorts)])
      {'y': Column(dtype=dtype('int16'), shape=())}
    """
    alike, empty = {}, {}  # rows -> the first client that has them: most clients are alike
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
    """A client's columns in the federation's dtypes and order; what has its dtype already is not copied.

    Args:
      schema: what `decide` gives.
      columns: the client's.
      client_id, first: the client, and one that the others are compared with in errors.

    Raises:
      ValueError: the client, which `decide` did not see, does not fit.
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
        if _both(wanted, Column(array.dtype, array.shape[1:]), name, client_id, first) != wanted:
            raise ValueError(
                f"client {client_id!r} has column {name!r} of {_said(array.dtype, array.shape[1:])}; expected what fits into "
                f"{_said(*wanted)}, the form of the clients that were read before the first round: {_REMEDY}."
            )
        if array.dtype != wanted.dtype:
            array = array.astype(wanted.dtype)
            array.flags.writeable = False
        result[name] = array
    return result


def _both(one: Column, other: Column, name: str, client_id: str, first: str) -> Column:
    """The column that holds the values of both."""
    dtype = _dtype_of_both(one.dtype, other.dtype)
    if dtype is None or len(one.shape) != len(other.shape):
        why = (
            "a dtype that holds the values of both"
            if _kind(one.dtype) == _kind(other.dtype)
            else "one kind of values"
        )
        raise ValueError(
            f"client {client_id!r} has column {name!r} of {_said(other.dtype, other.shape)}, but client {first!r} of "
            f"{_said(*one)}; expected {why if dtype is None else 'as many dimensions'} in all clients: {_REMEDY}."
        )
    return Column(dtype, tuple(a if a == b else None for a, b in zip(one.shape, other.shape)))


def _dtype_of_both(one, other):
    """The smallest dtype of the same kind that holds all values of two dtypes, or None."""
    if one == other.newbyteorder("="):
        return one
    if _kind(one) != _kind(other):
        return None
    try:
        both = np.promote_types(one, other)
    except TypeError:  # float16 and bfloat16
        return np.dtype(np.float32)
    return both if _kind(both) == _kind(one) else None


def _kind(dtype):
    # "V" is what NumPy says of bfloat16.
    return (
        "float"
        if dtype.name.startswith(("bfloat", "float"))
        else _KINDS.get(dtype.kind, dtype.name)
    )


def _check_names(schema, names, client_id, first):
    if set(names) != set(schema):
        has, wants = (", ".join(map(repr, each)) for each in (names, schema))
        raise ValueError(
            f"client {client_id!r} has the columns {has}, but client {first!r} has {wants}: {_REMEDY}."
        )


def _said(dtype, shape):
    what = "texts or other objects" if dtype.kind == "O" else str(dtype)
    return f"{what} with rows of shape {[size if size is not None else '*' for size in shape]}".replace(
        "'", ""
    )
