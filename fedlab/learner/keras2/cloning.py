"""Copies of compiled Keras models."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab import _checks
from fedlab.learner.copying import copy_metric, copy_optimizer, differing_argument, parts
from fedlab.learner.keras2.graph import compile_arguments, is_compiled, is_functional
from fedlab.learner.keras2.weight_decay import exclude_from_weight_decay
from fedlab.learner.weight_decay import weight_decay_exclusions

_originals = weakref.WeakKeyDictionary()  # copy -> the model that it was made from
_REMEDY = "pass a function that builds the model"


class CopyError(ValueError):
    """Keras cannot make a copy of the model that computes the same."""


def clone(
    model: tf.keras.Model,
    model_fn: Callable[[], tf.keras.Model] | None = None,
    copy_layer: Callable[[tf.keras.layers.Layer], tf.keras.layers.Layer] | None = None,
) -> tf.keras.Model:
    """Returns a compiled copy of a compiled Keras model, with the same weights.

    Args:
      model: a Sequential or Functional model, or any model if `model_fn` is given.
      model_fn: builds the same compiled model again. Needed if Keras cannot copy the
        model from its configuration: for a subclassed model, or if the loss has terms
        that are functions.
      copy_layer: makes the copy of a layer; by default from the layer's configuration.

    Raises:
      TypeError: `model` is not a Keras model.
      ValueError: the model is not compiled, or its copy would not compute the same.
    """
    check_compiled(model)
    if model_fn is not None:
        copy = model_fn()
        check_compiled(copy)
    else:
        copy = _copy(model, copy_layer or copy_of_layer)
    _check_weights(copy, model)
    if model_fn is None:
        recompile(copy, model)
    else:
        _exclude_from_weight_decay(copy, weight_decay_exclusions(model.optimizer, model.weights))
    for weight, original in zip(copy.weights, model.weights):
        if _is_table(weight):
            weight.set_weights(original.get_tensors())
        else:
            weight.assign(original)
    finalize_adapted(copy)
    _originals[copy] = weakref.ref(model)
    return copy


def finalize_adapted(model: tf.keras.Model) -> tf.keras.Model:
    """Prepares adapted preprocessing layers after their weights were assigned.

    These layers compute with values that they derive from the weights, such as a
    standard deviation from a variance.

    Returns:
      The model.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, PreprocessingLayer):
            layer.finalize_state()
    return model


def _copy(model, copy_layer):
    """A copy of a Sequential or Functional model, not compiled and with new weights."""
    if not is_functional(model):
        kind = type(model).__name__
        raise ValueError(f"{kind} is a subclassed model, which Keras cannot copy: {_REMEDY}")
    try:
        copy = tf.keras.models.clone_model(model, clone_function=copy_layer)
    except CopyError:
        raise
    except Exception as error:  # custom layers may raise anything
        raise CopyError(
            f"model {model.name!r} cannot be copied ({_first_line(error)}): {_REMEDY}"
        ) from error
    layers, originals = list(copy._flatten_layers()), list(model._flatten_layers())
    kinds, kinds_before = ([type(layer).__name__ for layer in each] for each in (layers, originals))
    if kinds != kinds_before:
        lost = [kind for kind in kinds_before if kinds_before.count(kind) != kinds.count(kind)]
        raise CopyError(f"a copy of model {model.name!r} loses its {lost[0]}: {_REMEDY}")
    for layer, original in zip(layers, originals):
        # A configuration does not tell which layers inside of layers are frozen.
        layer._trainable = original._trainable
        _check_layer(layer, original)
    return copy


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0]:.200}" if lines else type(error).__name__


def copy_of_layer(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """Returns a new layer with the same configuration.

    Raises:
      CopyError: the layer has no configuration, or cannot be made from it.
    """
    # Keras finds classes by name, and custom classes only if they are registered.
    inside = [part for each in layer._flatten_layers() for part in (each, *parts(each).values())]
    try:
        with tf.keras.utils.custom_object_scope(
            {type(part).__name__: type(part) for part in inside}
        ):
            copy = type(layer).from_config(layer.get_config())
    except NotImplementedError as error:
        raise CopyError(f"{_named(layer)} has no get_config: define it, or {_REMEDY}") from error
    except Exception as error:  # custom layers may raise anything
        reason = _first_line(error.__cause__ or error.__context__ or error)
        raise CopyError(
            f"{_named(layer)} cannot be made from its get_config ({reason}): correct get_config, "
            f"or {_REMEDY}"
        ) from error

    if isinstance(layer, tf.keras.layers.Discretization):
        copy.bin_boundaries = layer.bin_boundaries  # the shape of its output depends on them
    return copy


def _named(layer):
    return f"layer {layer.name!r} of class {type(layer).__name__}"


def _check_layer(copy, original):
    """Raises CopyError if the copy of a layer has other settings or lacks a loss."""
    if lacking := differing_argument(copy, original):
        raise CopyError(
            f"a copy of {_named(original)} has another {lacking!r}: add it to get_config, or "
            f"{_REMEDY}"
        )
    if len(copy._callable_losses) != len(original._callable_losses):
        what = "model" if isinstance(original, tf.keras.Model) else "layer"
        raise CopyError(
            f"{what} {original.name!r} has a loss from add_loss(function), which a copy loses: "
            f"{_REMEDY}"
        )


def _check_weights(copy, model):
    """Raises CopyError if a copy has other weights than the model, or shares them."""
    expected, shapes = (
        [None if _is_table(w) else w.shape.as_list() for w in each.weights]
        for each in (model, copy)
    )
    if shapes != expected:
        raise CopyError(
            f"the copy of model {model.name!r} has weights of shapes {shapes}: expected "
            f"{expected}; pass a function that builds the same model"
        )
    known = {id(w) for w in model.weights}
    shared = [w.name for w in copy.weights if not _is_table(w) and id(w) in known]
    if shared:
        raise CopyError(
            f"the copy of model {model.name!r} shares the weight {shared[0]!r} with the model: "
            "pass a function that makes new layers in every call"
        )


def _is_table(weight):
    """Whether a weight is not a variable, such as the vocabulary of a StringLookup."""
    return not hasattr(weight, "assign")


def non_trainable_weights(model: tf.keras.Model) -> list[tf.Variable]:
    """Returns the non-trainable weights that clients and server exchange.

    What `adapt()` stores in a layer without a fixed shape, such as the vocabulary of a
    `StringLookup` or the bins of a `Discretization`, is a constant: `clone` copies it.
    """
    return [
        w for w in model.non_trainable_weights if not _is_table(w) and w.shape.is_fully_defined()
    ]


def ancestors(model: tf.keras.Model) -> list[tf.keras.Model]:
    """Returns the models that a copy was made from, directly and indirectly.

    Models that no longer exist are left out.
    """
    found = []
    while (model := _originals.get(model, lambda: None)()) is not None:
        found.append(model)
    return found


def check_compiled(model: Any) -> None:
    """Raises an error unless `model` is a compiled Keras model that has weights.

    Raises:
      TypeError: `model` is not a Keras model.
      ValueError: the model is not compiled, or not built.
    """
    if not isinstance(model, tf.keras.Model):
        raise _checks.type_error(
            "model", model, "a compiled tf.keras model, or a function that returns one"
        )
    if not is_compiled(model) or model.loss is None:
        raise ValueError(
            f"model {model.name!r} is not compiled: call model.compile(optimizer=..., loss=..., "
            "metrics=...) first"
        )
    if not model.built:
        raise ValueError(
            f"model {model.name!r} has no weights yet: call it on a batch, or "
            "model.build(input_shape), first"
        )


def check_finite(model: tf.keras.Model) -> None:
    """Raises ValueError if a weight of the model is not a finite number."""
    for weight in (*model.trainable_weights, *non_trainable_weights(model)):
        if weight.dtype == tf.string:
            raise ValueError(
                f"model {model.name!r} has text in its weight {weight.name!r}: expected numbers "
                "or bools"
            )
        value = weight.numpy()
        if value.dtype.kind in "fV" and not np.isfinite(value.astype(np.float32)).all():
            wrong = "nan" if np.isnan(value.astype(np.float32)).any() else "inf"
            raise ValueError(
                f"model {model.name!r} has {wrong} in its weight {weight.name!r}: expected finite "
                "numbers; its training diverged, load another model"
            )


def recompile(copy: tf.keras.Model, model: tf.keras.Model) -> tf.keras.Model:
    """Compiles `copy` like `model`, with new metrics and a new optimizer.

    Args:
      copy: a copy of `model`, or `model` itself.
      model: a compiled Keras model.

    Returns:
      `copy`.
    """
    arguments = compile_arguments(model)
    arguments["optimizer"] = copy_optimizer(model.optimizer)
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = tf.nest.map_structure(copy_metric, arguments.get(name))
    excluded = weight_decay_exclusions(model.optimizer, model.weights)
    copy.compile(**arguments)
    _exclude_from_weight_decay(copy, excluded)
    return copy


def _exclude_from_weight_decay(copy, excluded):
    # By position: the names of a copy's variables may differ.
    exclude_from_weight_decay(copy.optimizer, [w for w, out in zip(copy.weights, excluded) if out])


def weight_arrays(model: tf.keras.Model) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the model's weights as arrays: (trainable, non-trainable)."""
    trainable, non_trainable = model.trainable_weights, non_trainable_weights(model)
    return [w.numpy() for w in trainable], [w.numpy() for w in non_trainable]


def weight_name(variable: tf.Variable) -> str:
    """Returns the name of a model's weight for messages, such as "dense/kernel:0"."""
    return variable.name


def with_weights(
    model: tf.keras.Model, trainable: Iterable[Any], non_trainable: Iterable[Any]
) -> tf.keras.Model:
    """Sets the model's weights, given in the form of `weight_arrays`, and returns it."""
    for variables, values in (
        (model.trainable_weights, trainable),
        (non_trainable_weights(model), non_trainable),
    ):
        for variable, value in zip(variables, values):
            variable.assign(value)
    return model
