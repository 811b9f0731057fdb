"""Copies of optimizers and metrics, and whether a copy has the same settings."""

import inspect
from typing import Any

import numpy as np
import tensorflow as tf

_Schedule = tf.keras.optimizers.schedules.LearningRateSchedule
# Classes that Keras 2 lacks.
_LossScale: Any = getattr(tf.keras.optimizers, "LossScaleOptimizer", ())
_VARIABLES: Any = getattr(tf.keras, "Variable", tf.Variable)


def copy_optimizer(optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.optimizers.Optimizer:
    """Returns a Keras optimizer with the same settings and no state.

    Exclusions from weight decay depend on the model and are not copied.

    Raises:
      ValueError: the copy, or its learning-rate schedule, has other settings.
    """
    return _copy(optimizer, optimizer_config(optimizer), "optimizer")


def optimizer_config(optimizer: tf.keras.optimizers.Optimizer) -> dict[str, Any]:
    """Returns a Keras optimizer's configuration.

    It contains the learning-rate schedule itself, which has no state.

    Raises:
      ValueError: the schedule has no get_config.
    """
    config = own_config(optimizer)
    if isinstance(config.get("learning_rate"), dict):
        config["learning_rate"] = optimizer._learning_rate
    if isinstance(optimizer, _LossScale):
        config["inner_optimizer"] = copy_optimizer(optimizer.inner_optimizer)
    return config


def own_config(optimizer: tf.keras.optimizers.Optimizer) -> dict[str, Any]:
    """Returns what `get_config` of a Keras optimizer returns.

    Raises:
      ValueError: the optimizer or its schedule has no get_config.
    """
    try:
        return dict(optimizer.get_config())
    except NotImplementedError:
        schedule = getattr(optimizer, "_learning_rate", None)
        name = type(schedule if isinstance(schedule, _Schedule) else optimizer).__name__
        raise ValueError(
            f"{name}, which the model is compiled with, has no get_config: define it"
        ) from None


def copy_metric(metric: Any) -> Any:
    """Returns a Keras metric with the same settings and no state.

    Anything other than a `tf.keras.metrics.Metric` is returned unchanged.

    Raises:
      ValueError: the copy has other settings.
    """
    if not isinstance(metric, tf.keras.metrics.Metric):
        return metric
    return _copy(metric, metric.get_config(), "metric")


def _copy(thing, config, what):
    name = f"{what} {thing.name!r} of class {type(thing).__name__}"
    try:
        copy = type(thing).from_config(config)
    except Exception as error:  # custom classes may raise anything
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} cannot be made from its get_config ({reason}): correct get_config"
        ) from error
    if differing := differing_argument(copy, thing):
        raise ValueError(f"a copy of {name} has another {differing!r}: add it to get_config")
    return copy


def differing_argument(copy: Any, original: Any) -> str | None:
    """Returns a constructor argument that a copy lacks or has a different value of.

    Arguments of custom classes are compared if the object stores them under their
    names, or if Keras has recorded them. Parts such as regularizers and schedules are
    compared as well.

    Args:
      copy: a layer, metric or optimizer made from the `get_config` of `original`.
      original: an object of the same class.

    Returns:
      The name of the argument, or None.
    """
    return next(_differing(copy, original, set()), None)


def _differing(copy, original, seen):
    if type(copy) is not type(original):
        yield type(original).__name__
        return
    if id(original) in seen or copy is original:
        return
    seen.add(id(original))
    values, values_before = vars(copy), vars(original)
    if not is_keras(type(original)):
        given, given_before = (
            getattr(getattr(thing, "_auto_config", None), "config", {})
            for thing in (copy, original)
        )
        for name, default in _parameters(type(original)).items():
            if (
                name in given_before
                and name not in given
                and not _is_same(default, given_before[name])
            ):
                yield name
            for attribute in (name, f"_{name}"):
                if (
                    attribute in values
                    and attribute in values_before
                    and not _is_same(values[attribute], values_before[attribute])
                ):
                    yield name
                elif _is_lost_constant(
                    name, values.get(attribute), values_before.get(attribute), original
                ):
                    yield name
    for attribute, value in parts(original).items():
        if attribute in values:
            yield from _differing(values[attribute], value, seen)


def _is_lost_constant(name, value, value_before, original):
    """Whether a variable that the argument `name` sets has another value in a copy.

    In a metric, that is so if get_config leaves the argument out.
    """
    if (
        not isinstance(original, tf.keras.metrics.Metric)
        or name in original.get_config()
        or not tf.executing_eagerly()
    ):
        return False
    if not isinstance(value, _VARIABLES) or not isinstance(value_before, _VARIABLES):
        return False
    return not np.array_equal(value.numpy(), value_before.numpy())


def parts(thing: Any) -> dict[str, Any]:
    """Returns attribute -> object of an object's regularizers, schedules and the like.

    Layers inside a layer and what a model is compiled with are left out.
    """
    not_parts = (type, tf.keras.layers.Layer, tf.keras.optimizers.Optimizer)
    items = {} if isinstance(thing, tf.keras.Model) else vars(thing)
    return {
        name: value
        for name, value in items.items()
        if hasattr(value, "get_config") and not isinstance(value, not_parts)
    }


def is_keras(cls: type) -> bool:
    """Returns whether a class is part of Keras."""
    return cls.__module__.split(".")[0] == "keras"


def _parameters(cls):
    """Name -> default value of the named constructor arguments of custom classes."""
    found = {}
    for base in cls.__mro__:
        if is_keras(base) or base is object:
            break
        if "__init__" in vars(base):
            parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
            found = {
                p.name: p.default
                for p in parameters
                if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            } | found
    return {
        name: default
        for name, default in found.items()
        if name not in ("name", "dtype", "trainable")
    }


def _is_same(value, other):
    """Whether two settings have the same numbers, strings and arrays."""
    if isinstance(value, (dict, list, tuple)) and isinstance(other, (dict, list, tuple)):
        flat, flat_other = tf.nest.flatten(value), tf.nest.flatten(other)
        return len(flat) == len(flat_other) and all(map(_is_same, flat, flat_other))
    plain = (bool, int, float, str, bytes, type(None), np.ndarray, np.generic)
    if not isinstance(value, plain) or not isinstance(other, plain):
        return True
    try:
        return bool(np.array_equal(value, other))
    except (TypeError, ValueError):
        return False
