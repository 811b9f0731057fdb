"""Copies of compiled Keras models."""

import weakref

import numpy as np
import tensorflow as tf
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab.learner.keras2.copying import (
    copy_metric,
    copy_optimizer,
    differing_argument,
    exclude_from_weight_decay,
    parts,
    weight_decay_exclusions,
)

_originals = weakref.WeakKeyDictionary()  # copy -> the model that it was made from


def clone(model, model_fn=None, copy_layer=None):
    """A compiled copy of a compiled Keras model: the same weights in variables of its own.

    Args:
      model: a Sequential or Functional model, or any model if `model_fn` is given.
      model_fn: builds the same compiled model again. Needed where Keras cannot copy a model from its
        configuration: a subclassed model, or terms of the loss that are functions.
      copy_layer: makes the copy of one of the model's layers; by default from its configuration.

    Returns:
      A compiled Keras model.

    Raises:
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


def finalize_adapted(model):
    """Prepares adapted layers whose weights have been assigned; they compute with numbers that they make of them.

    Returns:
      The model.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, PreprocessingLayer):
            layer.finalize_state()
    return model


def _copy(model, copy_layer):
    """A copy of a Sequential or Functional model, neither compiled nor with the model's weights."""
    if not getattr(model, "_is_graph_network", False):
        kind = type(model).__name__
        raise ValueError(f"{kind} is a subclassed model, which Keras cannot copy: {_REMEDY}.")
    try:
        copy = tf.keras.models.clone_model(model, clone_function=copy_layer)
    except CopyError:
        raise
    except Exception as error:  # whatever the code of a stranger's layer raises
        raise CopyError(
            f"model {model.name!r} cannot be copied ({_first_line(error)}): {_REMEDY}."
        ) from error
    layers, originals = list(copy._flatten_layers()), list(model._flatten_layers())
    kinds, kinds_before = ([type(layer).__name__ for layer in each] for each in (layers, originals))
    if kinds != kinds_before:
        lost = [kind for kind in kinds_before if kinds_before.count(kind) != kinds.count(kind)]
        raise CopyError(f"model {model.name!r} loses its {lost[0]} in a copy: {_REMEDY}.")
    for layer, original in zip(layers, originals):
        # Which layers inside of layers are frozen is not in their configuration.
        layer._trainable = original._trainable
        _check_layer(layer, original)
    return copy


_REMEDY = "pass a function that builds the model"


class CopyError(ValueError):
    """A model of which Keras cannot make a copy that computes the same."""


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0]:.200}" if lines else type(error).__name__


def copy_of_layer(layer):
    """A new layer of the same configuration.

    Raises:
      CopyError: the layer has no configuration, or cannot be made from it.
    """
    # Keras finds classes by name, those of strangers only where they are registered.
    inside = [part for each in layer._flatten_layers() for part in (each, *parts(each).values())]
    try:
        with tf.keras.utils.custom_object_scope(
            {type(part).__name__: type(part) for part in inside}
        ):
            copy = type(layer).from_config(layer.get_config())
    except NotImplementedError as error:
        reason = "has no get_config"
        raise CopyError(f"{_named(layer)} {reason}: define it, or {_REMEDY}.") from error
    except Exception as error:  # whatever the code of a stranger's layer raises
        reason = _first_line(error.__cause__ or error.__context__ or error)
        raise CopyError(
            f"{_named(layer)} cannot be made from its get_config ({reason}): {_REMEDY}."
        ) from error

    if isinstance(layer, tf.keras.layers.Discretization):
        copy.bin_boundaries = layer.bin_boundaries  # they decide the shape of its output
    return copy


def _named(layer):
    return f"layer {layer.name!r} of class {type(layer).__name__}"


def _check_layer(copy, original):
    """Raises CopyError where the copy of a layer has other settings or lacks a term of the loss."""
    if lacking := differing_argument(copy, original):
        raise CopyError(
            f"{_named(original)} has another {lacking!r} in a copy: add it to get_config, or {_REMEDY}."
        )
    if len(copy._callable_losses) != len(original._callable_losses):
        what = "model" if isinstance(original, tf.keras.Model) else "layer"
        raise CopyError(
            f"{what} {original.name!r} has a loss from add_loss(function), which a copy loses: {_REMEDY}."
        )


def _check_weights(copy, model):
    """Raises ValueError where a copy's weights do not correspond to the model's, or are the same."""
    shapes = [
        [None if _is_table(w) else w.shape.as_list() for w in each.weights]
        for each in (model, copy)
    ]
    if shapes[0] != shapes[1]:
        raise CopyError(
            f"the copy of {model.name} has weights of shapes {shapes[1]}, the model {shapes[0]}: is it built the same way?"
        )
    known = {id(w) for w in model.weights}
    shared = [w.name for w in copy.weights if not _is_table(w) and id(w) in known]
    if shared:
        raise CopyError(
            f"the copy of {model.name!r} shares the weight {shared[0]!r} with the model: "
            "pass a function that makes new layers in every call."
        )


def _is_table(weight):
    """Whether a weight of a layer is not a variable, such as the vocabulary of a StringLookup."""
    return not hasattr(weight, "assign")


def non_trainable_weights(model):
    """The non-trainable weights that clients and server exchange, variables of a fixed shape.

    What `adapt()` has stored in a layer and has no fixed shape, such as the vocabulary of a
    `StringLookup` or the bins of a `Discretization`, is a constant: `clone` copies it.
    """
    return [
        w for w in model.non_trainable_weights if not _is_table(w) and w.shape.is_fully_defined()
    ]


def ancestors(model):
    """The models that a copy was made from, directly and indirectly, as far as they still exist."""
    found = []
    while (model := _originals.get(model, lambda: None)()) is not None:
        found.append(model)
    return found


def check_compiled(model):
    """Raises where `model` is not a compiled Keras model, or has no weights yet."""
    if not isinstance(model, tf.keras.Model):
        raise TypeError(
            f"received {type(model).__name__}; allowed: a compiled tf.keras model, or a function that makes one."
        )
    if getattr(model, "_compile_config", None) is None or model.loss is None:
        raise ValueError(
            f"model {model.name!r} is not compiled: call model.compile(optimizer=..., loss=..., metrics=...) first."
        )
    if not model.built:
        raise ValueError(
            f"model {model.name!r} has no weights yet: call it on a batch, or model.build(input_shape), first."
        )


def check_finite(model):
    """Raises ValueError where a model has a weight that is not a finite number."""
    for weight in (*model.trainable_weights, *non_trainable_weights(model)):
        if weight.dtype == tf.string:
            raise ValueError(
                f"model {model.name!r} has text in its weight {weight.name!r}; allowed: weights of numbers or bools."
            )
        value = weight.numpy()
        if value.dtype.kind in "fV" and not np.isfinite(value.astype(np.float32)).all():
            wrong = "nan" if np.isnan(value.astype(np.float32)).any() else "inf"
            raise ValueError(
                f"model {model.name!r} has {wrong} in its weight {weight.name!r}: its training diverged; load another."
            )


def recompile(copy, model):
    """Compiles `copy` as `model` is compiled, with new metrics and a new optimizer.

    Args:
      copy: a copy of `model`, or `model` itself.
      model: a compiled Keras model.
    """
    # Keras keeps compile()'s arguments only here; `get_compile_config` would serialize them and lose plain functions.
    arguments = dict(model._compile_config.config)
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


def weight_arrays(model):
    """The model's weights as two lists of arrays, (trainable, non-trainable), as `with_weights` takes them."""
    return tuple(
        [weight.numpy() for weight in weights]
        for weights in (model.trainable_weights, non_trainable_weights(model))
    )


def with_weights(model, trainable, non_trainable):
    """The model, after its weights have been set to lists of arrays in the order of `trainable_weights` and `non_trainable_weights`."""
    for variables, values in (
        (model.trainable_weights, trainable),
        (non_trainable_weights(model), non_trainable),
    ):
        for variable, value in zip(variables, values):
            variable.assign(value)
    return model
