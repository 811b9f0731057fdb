"""Whether a model can read a client's columns, said before TensorFlow says it in a graph's traceback."""

import weakref
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.clients.columns import keras_batch, targets

_known = weakref.WeakKeyDictionary()


class _Limits(NamedTuple):
    """Of one input: a row's shape, [None, ...] where any length will do; the embedding that reads its ids, or None; its longest row."""

    shape: Any
    embedding: Any
    max_length: Any
    dtype: Any


def check_inputs(model, columns, owner="the data"):
    """Raises ValueError where an input is missing or of a wrong size, or has an id for which the model has no embedding.

    Args:
      model: a Keras model; a subclassed one, whose inputs are not known, is not checked.
      columns: name -> [n, ...].
      owner: whose columns they are, for the message.
    """
    if model not in _known:
        _known[model] = _limits(model)
    limits = _known[model]
    for name, column in columns.items():
        _check_kind(f"{owner} has column {name!r}", np.asarray(column))
    _check_targets(columns, owner)
    given = keras_batch(columns, input_names(model))[0]
    if not isinstance(given, dict):
        limits, given = (
            {"x": next(iter(limits.values()))} if len(limits) == 1 else limits,
            {"x": given},
        )
    if missing := [name for name in limits if name not in given]:
        has, wants = (", ".join(map(repr, names)) for names in (given, limits))
        raise ValueError(
            f"{owner} has the inputs {has}; the model wants {wants}: {missing[0]!r} is missing; map the clients' data first."
        )
    for name, wanted in limits.items():
        _check_column(f"{owner} has column {name!r}", np.asarray(given[name]), wanted)


def input_names(model):
    """The names of a Functional model's inputs, for `keras_batch`; those of another model are not known."""
    return model.input_names if getattr(model, "_is_graph_network", False) else ()


def fixed_batch_size(model: tf.keras.Model) -> int | None:
    """Returns the batch size that the model was built for, or None for any."""
    inputs = getattr(model, "inputs", None)
    return inputs[0].shape[0] if inputs else None


def _check_targets(columns, owner):
    """Raises ValueError where a target or a sample weight is a text."""
    for name in [*targets(columns), "sample_weight"]:
        column = np.asarray(columns.get(name, ()))
        if column.dtype.kind in "OSU" and column.size:
            raise ValueError(
                f"{owner} has column {name!r} with the text {column.flat[0]!r:.40}; expected numbers: "
                "map labels to 0, 1, 2, ... with ClientData.map."
            )


def _check_kind(where, column):
    """Raises ValueError where the values are none that TensorFlow has."""
    if column.dtype.kind == "O":
        if (
            wrong := next(
                (value for value in column.flat if not isinstance(value, (str, bytes))), ""
            )
        ) != "":
            raise ValueError(
                f"{where} with the value {wrong!r:.60}; allowed: numbers, or texts: map the clients' data first."
            )
    elif column.dtype.kind not in "biufcSUV":  # V: bfloat16 and the like
        raise ValueError(
            f"{where} of {column.dtype}; allowed: numbers, or texts: map the clients' data first."
        )


def _fits(shape, wanted):
    """Whether Keras takes rows of this shape: it adds a last axis of 1 by itself, and takes it away."""
    forms = [shape]
    if shape[-1:] == [1]:
        forms.append(shape[:-1])
    if wanted.rank and wanted[-1] == 1:
        forms.append([*shape, 1])
    return any(wanted.is_compatible_with(form) for form in forms)


def _check_column(where, column, limits):
    shape = list(column.shape[1:])
    if (column.dtype.kind in "OSU") != (limits.dtype == tf.string):
        what = "texts" if column.dtype.kind in "OSU" else str(column.dtype)
        raise ValueError(
            f"{where} of {what}; the model takes {limits.dtype.name}: map the clients' data first."
        )
    if not _fits(shape, limits.shape):
        raise ValueError(
            f"{where} with rows of shape {shape}; the model takes {limits.shape.as_list()}: map the clients' data, or change the model."
        )
    if limits.max_length is not None and shape and shape[0] > limits.max_length:
        raise ValueError(
            f"{where} with rows of {shape[0]} tokens; the model has {limits.max_length} positions: use shorter windows."
        )
    if limits.embedding is not None and column.size:
        rows, worst = limits.embedding.input_dim, column.min() if column.min() < 0 else column.max()
        if not 0 <= worst < rows:
            raise ValueError(
                f"{where} with id {worst}; allowed: 0 to {rows - 1}, the rows of the model's {limits.embedding.name!r}: "
                "prepare the data with the vocabulary that the model is made for."
            )


def _limits(model):
    if not getattr(model, "_is_graph_network", False):
        return {}
    embeddings = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.Embedding)]
    readers = {
        id(node.input_tensors): layer for layer in embeddings for node in layer.inbound_nodes
    }
    # Of BERT, whose positions are no input.
    positions = [layer.input_dim for layer in embeddings if layer.name == "embeddings_position"]
    return {
        name: _Limits(
            tensor.shape[1:], readers.get(id(tensor)), min(positions, default=None), tensor.dtype
        )
        for name, tensor in zip(model.input_names, model.inputs)
    }
