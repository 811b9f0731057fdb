"""Columns: how the examples of one client lie in memory, and how Keras wants them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESERVED = ("y", "sample_weight")
TARGET_OF = "y/"  # and the name of one of several outputs


def check_columns(columns: Mapping[str, Any], owner: str = "the data") -> dict[str, np.ndarray]:
    """Returns the columns as read-only arrays that all have the same number of rows.

    Args:
      columns: name -> array-like [n, ...]. Texts become object arrays of str or bytes, as TensorFlow wants them.
      owner: whose columns they are, for the messages ("client 'KENT'").

    Returns:
      name -> np.ndarray [n, ...], in the order given. An array is not copied: it is a read-only view.

    Raises:
      TypeError: `columns` is not a mapping of str to arrays.
      ValueError: there is no column, one has no rows axis, or the numbers of rows differ.

    Example:
      >>> check_columns({"x": [[1.0], [2.0]], "y": [0, 1]})["x"].shape
      (2, 1)
    """
    if not isinstance(columns, Mapping):
        raise TypeError(
            f"{owner}: received {type(columns).__name__}; allowed is a mapping of column name -> array [n, ...]; "
            "for arrays pass {'x': x, 'y': y}."
        )
    if not columns:
        raise ValueError(
            f"{owner}: received no columns; at least one is needed, such as {{'x': array}}."
        )
    arrays = {name: _as_array(name, value, owner) for name, value in columns.items()}
    rows = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(
            f"{owner}: received columns of different lengths {rows}; give every column the same rows."
        )
    return arrays


def num_rows(columns: Mapping[str, np.ndarray]) -> int:
    """Returns n, the number of examples in checked columns.

    Example:
      >>> num_rows({"x": np.zeros([3, 2])})
      3
    """
    return next(iter(columns.values())).shape[0]


def targets(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that hold targets: `y`, or `y/NAME` for each output NAME of a model with several.

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
    """Arranges columns as the tuple that Keras' `fit`, `evaluate` and `train_on_batch` take.

    ```
    x             = columns["x"] if there is one, else a dict of all columns that are not reserved;
                    a dict of the columns `input_names` if these are several and one of them is "x"
    y             = columns["y"], or a dict of the columns "y/NAME" by NAME, for a model with several outputs
    element       = (x,) or (x, y) or (x, y, sample_weight)
    ```

    The names `y` and `y/...` (targets) and `sample_weight` are reserved. Where a column `x` exists, every column but
    these is left out: it is not for the model. One `y` and one `sample_weight` are for all outputs, as in Keras.

    Args:
      columns: name -> array or tensor, any shape.
      input_names: the names of the model's inputs, where they are known.

    Returns:
      A tuple of one, two or three parts.

    Raises:
      ValueError: there is no input column, `sample_weight` comes without `y`, or `y` with `y/...`.

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
            f"received the columns {names}, none of them an input; add a column 'x', or inputs by name."
        )
    if "sample_weight" in columns and not named:
        raise ValueError(
            f"received the columns {names}: 'sample_weight' needs targets; add a column 'y'."
        )
    if "y" in named and len(named) > 1:
        raise ValueError(
            f"received the columns {names}: give either 'y' or one 'y/NAME' for each output NAME."
        )
    if "x" in input_names and len(input_names) > 1:
        x = {name: column for name, column in inputs.items() if name in input_names}
    else:
        x = inputs["x"] if "x" in inputs else inputs
    y = (
        columns["y"]
        if "y" in named
        else {name.removeprefix(TARGET_OF): column for name, column in named.items()}
    )
    return (
        x,
        *([y] if named else []),
        *([columns["sample_weight"]] if "sample_weight" in columns else []),
    )


def _as_array(name: str, value: Any, owner: str) -> np.ndarray:
    if not isinstance(name, str):
        raise TypeError(f"{owner}: received the column name {name!r}; allowed are strings.")
    try:
        array = np.asarray(value)
        if (
            array.dtype.kind in "SU"
        ):  # fixed-width text: numpy would drop trailing NULs, TensorFlow wants objects
            array = (
                array.astype(object)
                if isinstance(value, np.ndarray)
                else np.asarray(value, dtype=object)
            )
    except ValueError:  # numpy: "inhomogeneous shape"
        raise ValueError(
            f"{owner}: received column {name!r} with rows of different shapes; "
            "pad them to one shape, or keep them as one object per row."
        ) from None
    if array.ndim == 0:
        raise ValueError(
            f"{owner}: received column {name!r} as a single value; give an array [n, ...]."
        )
    array = array.view()
    array.flags.writeable = False
    return array
