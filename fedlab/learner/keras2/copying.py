"""Copies of what a Keras model is compiled with, and whether a copy has the same settings."""

import inspect

import numpy as np
import tensorflow as tf

_Schedule = tf.keras.optimizers.schedules.LearningRateSchedule


def copy_optimizer(optimizer):
    """A Keras optimizer with the same settings and no state.

    What it excludes from weight decay depends on the model, and is not copied.

    Raises:
      ValueError: the copy has other settings, of the optimizer or of its learning-rate schedule.
    """
    return _copy(optimizer, optimizer_config(optimizer), "optimizer")


def optimizer_config(optimizer):
    """A Keras optimizer's configuration, with its learning-rate schedule as an object: it has no state.

    Raises:
      ValueError: the schedule has no get_config.
    """
    try:
        config = dict(optimizer.get_config())
    except NotImplementedError:
        schedule = getattr(optimizer, "_learning_rate", None)
        name = type(schedule if isinstance(schedule, _Schedule) else optimizer).__name__
        raise ValueError(
            f"{name}, which the model is compiled with, has no get_config: define it."
        ) from None
    if isinstance(config.get("learning_rate"), dict):
        config["learning_rate"] = optimizer._learning_rate
    return config


def copy_metric(metric):
    """A Keras metric with the same settings and no state; anything else is returned as it is.

    Raises:
      ValueError: the copy has other settings.
    """
    return (
        _copy(metric, metric.get_config(), "metric")
        if isinstance(metric, tf.keras.metrics.Metric)
        else metric
    )


def _copy(thing, config, what):
    name = f"{what} {thing.name!r} of class {type(thing).__name__}"
    try:
        copy = type(thing).from_config(config)
    except Exception as error:  # whatever the code of a stranger's class raises
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} cannot be made from its get_config ({reason}): define get_config."
        ) from error
    if differing := differing_argument(copy, thing):
        raise ValueError(f"{name} has another {differing!r} in a copy: define get_config with it.")
    return copy


def differing_argument(copy, original):
    """The name of a constructor's argument that a copy made from `get_config` lacks or has otherwise, or None.

    Arguments of a class that is not Keras's are compared where the object keeps them under their names,
    and where Keras has recorded them. Parts such as regularizers and schedules are compared as well.

    Args:
      copy, original: objects of one class: layers, metrics, optimizers.
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
    """Whether a metric's copy has another value in a variable that the argument `name` sets, as it does without get_config."""
    if (
        not isinstance(original, tf.keras.metrics.Metric)
        or name in original.get_config()
        or not tf.executing_eagerly()
    ):
        return False
    if not isinstance(value, tf.Variable) or not isinstance(value_before, tf.Variable):
        return False
    return not np.array_equal(value.numpy(), value_before.numpy())


def parts(thing):
    """Attribute -> object of the regularizers, schedules and the like that an object consists of.

    Not the layers inside of a layer, and not what a model is compiled with.
    """
    not_parts = (type, tf.keras.layers.Layer, tf.keras.optimizers.Optimizer)
    items = {} if isinstance(thing, tf.keras.Model) else vars(thing)
    return {
        name: value
        for name, value in items.items()
        if hasattr(value, "get_config") and not isinstance(value, not_parts)
    }


def is_keras(cls):
    """Whether a class comes with Keras."""
    return cls.__module__.split(".")[0] == "keras"


def _parameters(cls):
    """name -> default value of the constructor's named arguments, of all classes that are not Keras's."""
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
    """Whether two settings are the same, as far as numbers, texts and arrays can tell."""
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


def weight_decay_exclusions(optimizer, variables):
    """Whether a Keras optimizer excludes each variable from its weight decay, as `exclude_from_weight_decay` was told.

    Args:
      optimizer: a Keras optimizer.
      variables: the model's variables, or None where they are not known.

    Returns:
      One bool per variable; none where the variables are not known.

    Raises:
      ValueError: the optimizer excludes some, and the variables are not known.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not (
        getattr(optimizer, "_exclude_from_weight_decay", None)
        or getattr(optimizer, "_exclude_from_weight_decay_names", None)
    ):
        return [False] * len(variables or ())
    if variables is None:
        raise ValueError(
            f"{type(optimizer).__name__} excludes variables from weight decay: pass variables=model.trainable_variables."
        )
    return [not optimizer._use_weight_decay(v) for v in variables]


def exclude_from_weight_decay(optimizer, variables):
    """Excludes these variables, and no others, from a Keras optimizer's weight decay, whether it is built or not."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if variables:
        optimizer._exclude_from_weight_decay = [optimizer._var_key(v) for v in variables]
        optimizer._exclude_from_weight_decay_names = []
