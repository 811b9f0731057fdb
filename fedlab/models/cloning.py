"""Copies of compiled Keras models."""

import tensorflow as tf


def clone(model, model_fn=None):
    """A compiled copy of a compiled Keras model, with variables, metrics and optimizer of its own and the same weights.

    Args:
      model: a Sequential or Functional model, or any model where `model_fn` is given.
      model_fn: makes the same compiled model anew; needed where Keras cannot copy one (a subclassed model).

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
        copy = tf.keras.models.clone_model(model)
        recompile(copy, model)
    shapes = [tuple(w.shape) for w in model.weights], [tuple(w.shape) for w in copy.weights]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the copy of {model.name} has weights of shapes {shapes[1]}, the model {shapes[0]}: is it built the same way?")
    for variable, original in zip(copy.weights, model.weights):
        variable.assign(original)
    return copy


def check_compiled(model):
    """Raises where `model` is not a compiled Keras model."""
    if not isinstance(model, tf.keras.Model):
        raise TypeError(f"received {type(model).__name__}; allowed: a compiled tf.keras model, or a function that makes one.")
    if getattr(model, "_compile_config", None) is None or model.loss is None:
        raise ValueError(f"model {model.name!r} is not compiled: call model.compile(optimizer=..., loss=..., metrics=...) first.")


def recompile(copy, model):
    """Compiles `copy` as `model` is compiled. Metrics and optimizer are made anew: they hold state, which must not be shared."""
    # Keras keeps compile()'s arguments only here; `get_compile_config` would serialize them and lose plain functions.
    arguments = dict(model._compile_config.config)
    arguments["optimizer"] = type(model.optimizer).from_config(model.optimizer.get_config())
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = tf.nest.map_structure(
            lambda m: type(m).from_config(m.get_config()) if isinstance(m, tf.keras.metrics.Metric) else m, arguments.get(name)
        )
    copy.compile(**arguments)
    return copy
