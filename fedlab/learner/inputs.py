"""Checks whether a model can read a client's columns, before TensorFlow fails in a graph."""

import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.clients.columns import keras_batch, targets
from fedlab.learner import graph

_known = weakref.WeakKeyDictionary()  # model -> its limits
_REMEDY = "map the clients' data first"


class _Limits(NamedTuple):
    """What an input of a model accepts.

    Attributes:
      shape: the `tf.TensorShape` of a row. A dimension is None if it may have any size.
      embedding: the Embedding layer that reads the input, or None.
      max_length: the largest number of tokens in a row, or None for any.
      dtype: the `tf.DType` of the input.
    """

    shape: Any
    embedding: Any
    max_length: int | None
    dtype: Any


def check_inputs(
    model: tf.keras.Model, columns: Mapping[str, np.ndarray], owner: str = "the data"
) -> None:
    """Raises ValueError if a model cannot read some columns.

    An input may be missing or have the wrong shape or type, or contain an id that is
    not in the model's embedding. Inputs of subclassed models are not known and not
    checked.

    Args:
      model: a Keras model.
      columns: name -> [n, ...].
      owner: whose columns they are, for error messages.
    """
    if model not in _known:
        _known[model] = _limits(model)
    limits = _known[model]
    for name, column in columns.items():
        _check_kind(f"{owner} has column {name!r}", np.asarray(column))
    _check_targets(columns, owner)
    given = keras_batch(columns, graph.input_names(model))[0]
    if not isinstance(given, dict):
        limits = {"x": next(iter(limits.values()))} if len(limits) == 1 else limits
        given = {"x": given}
    if missing := [name for name in limits if name not in given]:
        has, expected = (", ".join(map(repr, names)) for names in (given, limits))
        remedy = _REMEDY
        if getattr(model, "preprocessor", None) is not None:  # of KerasHub
            remedy = "map the clients' data with model.preprocessor first"
        raise ValueError(
            f"{owner} has the inputs {has}: expected {expected}; {missing[0]!r} is missing, "
            f"{remedy}"
        )
    for name, wanted in limits.items():
        _check_column(f"{owner} has column {name!r}", np.asarray(given[name]), wanted)


def as_fit_rounds(columns: Mapping[str, tf.Tensor], model: tf.keras.Model) -> dict[str, tf.Tensor]:
    """Returns a batch whose numbers are of `keras.backend.floatx()`, as `fit` passes them on.

    For a model with float64 weights, the batch keeps its precision.
    """
    floatx = tf.as_dtype(tf.keras.backend.floatx())
    # The words of Keras 2's lookup layers are among the weights, and have no dtype.
    dtypes = {getattr(weight, "dtype", None) for weight in model.weights}
    if dtypes & {tf.float64, "float64"}:
        return dict(columns)
    return {
        name: tf.cast(column, floatx) if column.dtype.is_floating else column
        for name, column in columns.items()
    }


def fixed_batch_size(model: tf.keras.Model) -> int | None:
    """Returns the batch size that the model was built for, or None for any."""
    inputs = model.inputs if graph.is_functional(model) else None
    return inputs[0].shape[0] if inputs else None


def _check_targets(columns, owner):
    """Raises ValueError if a target or a sample weight is a string."""
    for name in [*targets(columns), "sample_weight"]:
        column = np.asarray(columns.get(name, ()))
        if column.dtype.kind in "OSU" and column.size:
            raise ValueError(
                f"{owner} has column {name!r} with the text {column.flat[0]!r:.40}: expected "
                "numbers; map labels to 0, 1, 2, ... with ClientData.map"
            )


def _check_kind(where, column):
    """Raises ValueError if TensorFlow has no such values."""
    if column.dtype.kind == "O":
        wrong = [value for value in column.flat if not isinstance(value, (str, bytes))]
        if wrong:
            raise ValueError(
                f"{where} with the value {wrong[0]!r:.60}: expected numbers or strings; {_REMEDY}"
            )
    elif column.dtype.kind not in "biufcSUV":  # V: bfloat16 and the like
        raise ValueError(f"{where} of {column.dtype}: expected numbers or strings; {_REMEDY}")


def _fits(shape, wanted):
    """Whether Keras accepts rows of this shape. It adds or removes a last axis of size 1."""
    forms = [shape]
    if shape[-1:] == [1]:
        forms.append(shape[:-1])
    if wanted.rank and wanted[-1] == 1:
        forms.append([*shape, 1])
    return any(wanted.is_compatible_with(form) for form in forms)


def _check_column(where, column, limits):
    shape = list(column.shape[1:])
    if (column.dtype.kind in "OSU") != (limits.dtype == tf.string):
        kind = "strings" if column.dtype.kind in "OSU" else str(column.dtype)
        raise ValueError(f"{where} of {kind}: expected {limits.dtype.name}; {_REMEDY}")
    if not _fits(shape, limits.shape):
        raise ValueError(
            f"{where} with rows of shape {shape}: expected {limits.shape.as_list()}; map the "
            "clients' data, or change the model"
        )
    if limits.max_length is not None and shape and shape[0] > limits.max_length:
        raise ValueError(
            f"{where} with rows of {shape[0]} tokens: expected at most {limits.max_length}, the "
            "model's positions; use shorter windows"
        )
    if limits.embedding is not None and column.size:
        rows, worst = limits.embedding.input_dim, column.min() if column.min() < 0 else column.max()
        if not 0 <= worst < rows:
            raise ValueError(
                f"{where} with id {worst}: expected 0 to {rows - 1}, the rows of the model's "
                f"{limits.embedding.name!r}; prepare the data with the vocabulary of the model"
            )


def _limits(model):
    if not graph.is_functional(model):
        return {}
    embeddings = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.Embedding)]
    readers = {id(each): layer for layer in embeddings for each in graph.inputs_of(layer)}
    # BERT's positions are not an input: their embedding limits the length of every
    # input.
    positions = [layer.input_dim for layer in embeddings if layer.name == "embeddings_position"]
    return {
        name: _Limits(
            tf.TensorShape(tensor.shape[1:]),
            readers.get(id(tensor)),
            min(positions, default=None),
            tf.as_dtype(tensor.dtype),
        )
        for name, tensor in zip(graph.input_names(model), model.inputs)
    }
