"""Copies of compiled Keras models."""

import numpy as np
import tensorflow as tf
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab.models.copying import copy_optimizer, exclude_from_weight_decay, weight_decay_exclusions


def clone(model, model_fn=None, copy_layer=None):
    """A compiled copy of a compiled Keras model, with variables, metrics and optimizer of its own and the same weights.

    Args:
      model: a Sequential or Functional model, or any model where `model_fn` is given.
      model_fn: makes the same compiled model anew; needed where Keras cannot copy one (a subclassed model).
      copy_layer: makes the copy of one of the model's layers; by default from its configuration.

    Raises:
      ValueError: where the model is not compiled, or cannot be copied without `model_fn`.
    """
    check_compiled(model)
    if model_fn is not None:
        copy = model_fn()
        check_compiled(copy)
    else:
        if not getattr(model, "_is_graph_network", False):
            raise ValueError(f"{type(model).__name__} is a subclassed model, which Keras cannot copy: pass a function that makes it.")
        copy = tf.keras.models.clone_model(model, clone_function=copy_layer)
        # Which layers inside of layers are frozen is not in their configuration.
        for layer, original in zip(copy._flatten_layers(), model._flatten_layers()):
            layer._trainable = original._trainable
    shapes = [tuple(w.shape) for w in model.weights], [tuple(w.shape) for w in copy.weights]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the copy of {model.name} has weights of shapes {shapes[1]}, the model {shapes[0]}: is it built the same way?")
    if model_fn is None:
        recompile(copy, model)
    else:
        _exclude_from_weight_decay(copy, weight_decay_exclusions(model.optimizer, model.weights))
    for variable, original in zip(copy.weights, model.weights):
        variable.assign(original)
    for layer in copy._flatten_layers():
        if isinstance(layer, PreprocessingLayer):
            layer.finalize_state()  # it computes with numbers that it makes of its weights
    return copy


def check_compiled(model):
    """Raises where `model` is not a compiled Keras model."""
    if not isinstance(model, tf.keras.Model):
        raise TypeError(f"received {type(model).__name__}; allowed: a compiled tf.keras model, or a function that makes one.")
    if getattr(model, "_compile_config", None) is None or model.loss is None:
        raise ValueError(f"model {model.name!r} is not compiled: call model.compile(optimizer=..., loss=..., metrics=...) first.")
    tables = [layer.name for layer in model._flatten_layers() if any(not hasattr(w, "assign") for w in layer._non_trainable_weights)]
    if tables:
        raise ValueError(f"layer {tables[0]!r} has looked up words in a table, which is no weight: map the clients' data with it first.")


def check_finite(model):
    """Raises ValueError where a model has a weight that is not a finite number."""
    for weight in model.weights:
        if weight.dtype == tf.string:
            raise ValueError(f"model {model.name!r} has text in its weight {weight.name!r}; allowed: weights of numbers or bools.")
        value = weight.numpy()
        if value.dtype.kind in "fV" and not np.isfinite(value.astype(np.float32)).all():
            wrong = "nan" if np.isnan(value.astype(np.float32)).any() else "inf"
            raise ValueError(f"model {model.name!r} has {wrong} in its weight {weight.name!r}: its training diverged; load another.")


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
        arguments[name] = tf.nest.map_structure(
            lambda m: type(m).from_config(m.get_config()) if isinstance(m, tf.keras.metrics.Metric) else m, arguments.get(name)
        )
    excluded = weight_decay_exclusions(model.optimizer, model.weights)
    copy.compile(**arguments)
    _exclude_from_weight_decay(copy, excluded)
    return copy


def _exclude_from_weight_decay(copy, excluded):
    # By position: the names of a copy's variables may differ.
    exclude_from_weight_decay(copy.optimizer, [w for w, out in zip(copy.weights, excluded) if out])
