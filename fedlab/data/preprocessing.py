"""Text, categories and numbers as inputs of models, by Keras preprocessing layers.

A layer such as `Normalization` or `StringLookup` first has to adapt: it learns means, or a
vocabulary. It may only see training clients, or the evaluation would be on known data.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.columns import RESERVED, TARGET_OF

# What the constructor of a layer was given and it need not learn.
_GIVEN = ("vocabulary", "mean", "variance", "bin_boundaries")


def preprocess(
    train: ClientData,
    *others: ClientData,
    layers: Mapping[str, Any],
    into: str | None = None,
) -> tuple[ClientData, ...]:
    """Adapts Keras preprocessing layers on the training clients, and applies them to all data.

    ```
    for name, layer in layers:  layer.adapt(column name of all train clients)
    column name of each client = layer(column name)
    into = concatenation of the inputs in layers, float32     (if into is given)
    ```

    Clients are read one after the other when a layer adapts, and are preprocessed when
    they are used, so that the data may be larger than memory. The layers stay those of
    the caller: put them before the trained model to predict from raw data.

    Args:
      train: the training clients, the only ones that layers see when they adapt.
      others: further data to preprocess in the same way, such as test clients.
      layers: name of a column, also `y` -> a Keras layer, such as `Normalization()`,
        `StringLookup(output_mode="one_hot")`, `IntegerLookup()`, `Discretization(9)`,
        `TextVectorization(output_sequence_length=20)` or `Rescaling(1 / 255)`; or a
        function array [n, ...] -> array [n, ...]; or None for a column as it is. Layers
        whose vocabulary, mean or boundaries were given do not adapt.
      into: the name of one column, such as "x", that replaces the inputs in `layers`:
        their values [n] and [n, k], concatenated in the order of `layers`. By default,
        every input keeps its name.

    Returns:
      (train, *others), preprocessed. Columns that are not in `layers` are not changed.

    Raises:
      TypeError, ValueError: an argument is wrong, or there is no such column; the
        message lists similar names. Or, on reading, a layer cannot take a client's
        values, or returns another number of rows.

    Example:
      >>> from keras.layers import Normalization, StringLookup
      >>> ann = {"age": [20.0, 40.0], "city": ["oslo", "rome"]}
      >>> train = ClientData.from_dict({"ann": ann})
      >>> test = ClientData.from_dict({"bob": {"age": [50.0], "city": ["bonn"]}})
      >>> layers = {"age": Normalization(), "city": StringLookup(vocabulary=["oslo", "rome"])}
      >>> train, test = preprocess(train, test, layers=layers)
      >>> train["ann"]["age"].tolist(), test["bob"]["age"].tolist(), test["bob"]["city"].tolist()
      ([-1.0, 1.0], [2.0], [0])
    """
    for name, data in [("train", train), *((f"others[{i}]", o) for i, o in enumerate(others))]:
        if not isinstance(data, ClientData):
            raise _checks.type_error(name, data, "a fedlab.ClientData")
    if not isinstance(layers, Mapping) or not layers:
        expected = "a mapping, name of a column -> Keras layer, such as {'x': Normalization()}"
        raise _checks.type_error("layers", layers, expected)
    if into is not None and (not isinstance(into, str) or not into or _is_target(into)):
        raise _checks.value_error("into", into, "the name of an input, such as 'x', or None")
    for name, layer in layers.items():
        if name not in train.schema:
            close = difflib.get_close_matches(str(name), train.schema, n=3, cutoff=0.5)
            such = f", such as {' or '.join(map(repr, close))}" if close else ""
            raise ValueError(
                f"layers: {name!r:.80} is not a column of train: expected one of "
                f"{list(train.schema)}{such}"
            )
        if isinstance(layer, type) or not (layer is None or callable(layer)):
            expected = "a Keras layer such as Normalization(), a function, or None"
            raise _checks.type_error(f"layers[{name!r}]", layer, expected)
    for name, layer in layers.items():
        if _learns(layer):
            _adapt(layer, train, name)

    def apply(data: ClientData) -> ClientData:
        made = ClientData(
            data.client_ids,
            lambda client_id: _preprocessed(data.in_schema(client_id), layers, into, client_id),
        )
        made._source = data.source
        return made

    return tuple(apply(data) for data in (train, *others))


def _is_target(name: str) -> bool:
    return name in RESERVED or name.startswith(TARGET_OF)


def _config(layer: Any) -> Mapping[str, Any]:
    return layer.get_config() if hasattr(layer, "get_config") else {}


def _learns(layer: Any) -> bool:
    """Whether a layer has to adapt."""
    return hasattr(layer, "adapt") and all(_config(layer).get(name) is None for name in _GIVEN)


def _rows(array: np.ndarray) -> np.ndarray:
    """[n, 1] for [n]: some layers take the last dimension for the one of features."""
    return array[:, None] if array.ndim == 1 else array


def _adapt(layer: Any, train: ClientData, name: str) -> None:
    import tensorflow as tf

    column = train.schema[name]
    shape = [None, *(column.shape or (1,))]
    dtype = tf.string if column.dtype == object else tf.as_dtype(column.dtype)

    def batches() -> Iterator[np.ndarray]:
        for client_id in train:
            array = train.in_schema(client_id)[name]
            if len(array):
                yield _rows(array)

    dataset = tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec(shape, dtype))
    with _explained(layer, name, "the training clients"):
        layer.adapt(dataset)


def _preprocessed(
    columns: Mapping[str, np.ndarray], layers: Mapping[str, Any], into: str | None, client_id: str
) -> dict[str, np.ndarray]:
    made = dict(columns)
    for name, layer in layers.items():
        if layer is not None:
            made[name] = _applied(layer, columns[name], name, client_id)
    if into is None:
        return made
    inputs = {name: made.pop(name) for name in layers if not _is_target(name)}
    for name, array in inputs.items():
        if array.ndim > 2 or array.dtype == object:
            raise ValueError(
                f"layers[{name!r}]: {array.dtype} of shape {list(array.shape)} for client "
                f"{client_id!r}: expected numbers [n] or [n, k] to concatenate into {into!r}; use "
                "a layer that returns numbers, or into=None"
            )
    if into in made:
        raise ValueError(
            f"into={into!r}: client {client_id!r} has another column of this name: expected a new "
            "name; choose another, or add the column to layers"
        )
    together = np.concatenate([_rows(array) for array in inputs.values()], axis=1)
    return {into: together.astype(np.float32), **made}


def _applied(layer: Any, array: np.ndarray, name: str, client_id: str) -> np.ndarray:
    import tensorflow as tf

    is_layer = hasattr(layer, "get_config")
    with _explained(layer, name, f"client {client_id!r}"), tf.init_scope():
        if not is_layer:
            result = np.asarray(layer(array))
        elif array.dtype == object:
            result = np.asarray(layer(tf.constant(_rows(array), tf.string)))
        else:
            result = np.asarray(layer(_rows(array)))
    if result.ndim == 0 or len(result) != len(array):
        raise ValueError(
            f"layers[{name!r}] returned the shape {list(result.shape)} for {len(array)} examples "
            f"of client {client_id!r}: expected one row per example; change the layer"
        )
    # One number for each number. Other layers return a row, which may have one element.
    same = is_layer and type(layer).__name__ != "TextVectorization"
    if same and _config(layer).get("output_mode", "int") == "int" and array.ndim == 1:
        result = result.reshape(len(array)) if result.shape == (len(array), 1) else result
    return result


class _explained:
    """A context in which errors of a layer become one line that names the column."""

    def __init__(self, layer: Any, name: str, whose: str):
        self._what = f"layers[{name!r}]={_checks.kind(layer)}"
        self._whose = whose

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or not isinstance(error, Exception):
            return
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0] if lines else type(error).__name__
        raise ValueError(
            f"{self._what} cannot take the values of {self._whose} ({why:.200}): expected a layer "
            "for such values; use another"
        ) from error
