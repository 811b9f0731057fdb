"""Columns: the examples of one client as arrays, and as the batches that Keras takes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks

RESERVED = ("y", "sample_weight")
TARGET_OF = "y/"
"""Before the name of an output: the column of its targets, for models with several outputs."""


def check_columns(columns: Mapping[str, Any], owner: str = "the data") -> dict[str, np.ndarray]:
    """Returns the columns as read-only arrays that all have the same number of rows.

    Args:
      columns: name -> array-like [n, ...]. Strings become object arrays of str or
        bytes, which is what TensorFlow takes.
      owner: whose columns they are, for error messages ("client 'KENT'").

    Returns:
      name -> np.ndarray [n, ...], in the given order. Arrays are read-only views, not
      copies.

    Raises:
      TypeError: `columns` is not a mapping of str to arrays.
      ValueError: there is no column, a column is a scalar, or the numbers of rows
        differ.

    Example:
      >>> check_columns({"x": [[1.0], [2.0]], "y": [0, 1]})["x"].shape
      (2, 1)
    """
    if not isinstance(columns, Mapping):
        expected = "a mapping column name -> array [n, ...], such as {'x': x, 'y': y}"
        raise _checks.type_error(owner, columns, expected)
    if not columns:
        raise ValueError(f"{owner} has no columns: expected at least one, such as {{'x': array}}")
    arrays = {name: _as_array(name, value, owner) for name, value in columns.items()}
    rows = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(
            f"{owner} has columns of different lengths {rows}: expected equally many rows in each"
        )
    return arrays


def num_rows(columns: Mapping[str, np.ndarray]) -> int:
    """Returns n, the number of examples of checked columns.

    Example:
      >>> num_rows({"x": np.zeros([3, 2])})
      3
    """
    return next(iter(columns.values())).shape[0]


def num_bytes(columns: Mapping[str, np.ndarray]) -> int:
    """Returns the size of columns in memory, including the texts that they refer to.

    Example:
      >>> num_bytes({"x": np.zeros([3, 2])})
      48
    """
    return sum(map(_size, columns.values()))


def _size(array: np.ndarray) -> int:
    if array.dtype != object:
        return array.nbytes
    # Strings are objects, of which NumPy counts only the pointers.
    texts = (text for text in array.flat if isinstance(text, (str, bytes)))
    return array.nbytes + sum(64 + len(text) for text in texts)


def targets(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the target columns: `y`, or `y/NAME` for each output NAME of a model with several.

    Example:
      >>> list(targets({"x": [5], "y/start": [1], "y/end": [2]}))
      ['y/start', 'y/end']
    """
    return {
        name: column
        for name, column in columns.items()
        if name == "y" or name.startswith(TARGET_OF)
    }


def keras_batch(columns: Mapping[str, Any], input_names: Sequence[str] = ()) -> tuple:
    """Arranges columns as the tuple that `fit`, `evaluate` and `train_on_batch` of Keras take.

    ```
    x = columns["x"] if there is one, else a dict of all columns that are not reserved;
        a dict of the columns `input_names` if there are several and one of them is "x"
    y = columns["y"]; or, for a model with several outputs, a dict NAME -> column "y/NAME"
    batch = (x,) or (x, y) or (x, y, sample_weight)
    ```

    The names `y` and `y/...` (targets) and `sample_weight` are reserved. If there is a
    column `x`, all columns that are not reserved are left out. A single `y` or
    `sample_weight` applies to all outputs, as in Keras.

    Args:
      columns: name -> array or tensor, any shape.
      input_names: the names of the model's inputs, if known.

    Returns:
      A tuple of one, two or three parts.

    Raises:
      ValueError: there is no input column, `sample_weight` without `y`, or both `y` and
        `y/...`.

    Example:
      >>> keras_batch({"user": [3], "movie": [8], "y": [4.5]})
      ({'user': [3], 'movie': [8]}, [4.5])
    """
    names = list(columns)
    named = targets(columns)
    inputs = {
        name: column
        for name, column in columns.items()
        if name not in RESERVED and name not in named
    }
    if not inputs:
        raise ValueError(
            f"columns {names}: expected an input; add a column 'x', or inputs by their names"
        )
    if "sample_weight" in columns and not named:
        raise ValueError(
            f"columns {names}: expected targets beside 'sample_weight'; add a column 'y'"
        )
    if "y" in named and len(named) > 1:
        raise ValueError(
            f"columns {names}: expected either 'y' or one 'y/NAME' for each output NAME"
        )
    if "x" in input_names and len(input_names) > 1:
        x = {name: column for name, column in inputs.items() if name in input_names}
    else:
        x = inputs["x"] if "x" in inputs else inputs
    batch = [x]
    if "y" in named:
        batch.append(columns["y"])
    elif named:
        batch.append({name.removeprefix(TARGET_OF): column for name, column in named.items()})
    if "sample_weight" in columns:
        batch.append(columns["sample_weight"])
    return tuple(batch)


def concatenate(
    parts: Sequence[tuple[str, Mapping[str, np.ndarray]]], names: Iterable[str]
) -> dict[str, np.ndarray]:
    """Returns the columns of several clients, one after the other.

    Args:
      parts: (client id, columns), at least one.
      names: the names of the columns.

    Raises:
      ValueError: the rows of two clients differ in shape.
    """
    # The rows of a client without examples may have no length where others differ.
    parts = [pair for pair in parts if num_rows(pair[1])] or list(parts[:1])
    first, expected = parts[0]
    for client_id, part in parts:
        if any(part[name].shape[1:] != column.shape[1:] for name, column in expected.items()):
            raise ValueError(
                f"client {client_id!r} has rows {_describe(part)}, but client {first!r} has "
                f"{_describe(expected)}: expected rows of one shape; pad them with map() first"
            )
    return {name: np.concatenate([part[name] for _, part in parts]) for name in names}


def _describe(columns: Mapping[str, np.ndarray]) -> str:
    rows = (f"{name}: {array.dtype} {list(array.shape[1:])}" for name, array in columns.items())
    return "{" + ", ".join(rows) + "}"


def _as_array(name: str, value: Any, owner: str) -> np.ndarray:
    if not isinstance(name, str):
        raise TypeError(f"{owner}: column name {name!r}: expected a string")
    try:
        array = np.asarray(value)
        if array.dtype.kind in "SU":
            # NumPy would drop the trailing NULs of fixed-width strings.
            text = array if isinstance(value, np.ndarray) else np.asarray(value, dtype=object)
            array = text.astype(object)
    except ValueError:  # NumPy's "inhomogeneous shape"
        raise ValueError(
            f"{owner}: column {name!r} has rows of different shapes: expected one shape; pad the "
            "rows, or use one object per row"
        ) from None
    if array.ndim == 0:
        raise ValueError(f"{owner}: column {name!r} is a single value: expected an array [n, ...]")
    array = array.view()
    array.flags.writeable = False
    return array
