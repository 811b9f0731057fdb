"""Copies of compiled Keras models."""

import inspect
import re
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.saving.serialization_lib import SafeModeScope

from fedlab import _checks
from fedlab.learner.copying import copy_metric, copy_optimizer, differing_argument, parts
from fedlab.learner.keras3.graph import compile_arguments, is_compiled, is_functional, layers_of
from fedlab.learner.keras3.weight_decay import exclude_from_weight_decay
from fedlab.learner.weight_decay import weight_decay_exclusions

_originals = weakref.WeakKeyDictionary()  # copy -> the model that it was made from
_REMEDY = "pass a function that builds the model"


class CopyError(ValueError):
    """Keras cannot make a copy of the model that computes the same."""


def clone(
    model: keras.Model,
    model_fn: Callable[[], keras.Model] | None = None,
    copy_layer: Callable[[keras.layers.Layer], keras.layers.Layer] | None = None,
) -> keras.Model:
    """Returns a compiled copy of a compiled Keras model, with the same weights.

    Args:
      model: a Sequential or Functional model, or any model if `model_fn` is given.
      model_fn: builds the same compiled model again. Needed if Keras cannot copy the
        model from its configuration, such as a subclassed model.
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
        weight.assign(original)
    for layer, original in zip(layers_of(copy), layers_of(model)):
        _copy_vocabulary(layer, original)
    finalize_adapted(copy)
    _originals[copy] = weakref.ref(model)
    return copy


def is_adapted(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer's state comes from `adapt()`, so that training never changes it."""
    return callable(getattr(layer, "adapt", None))


def finalize_adapted(model: keras.Model) -> keras.Model:
    """Prepares adapted preprocessing layers after their weights were assigned.

    These layers compute with values that they derive from the weights, such as a
    standard deviation from a variance.

    Returns:
      The model.
    """
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Normalization) and layer.built:
            layer.finalize_state()
    return model


def _copy_vocabulary(layer, original):
    """Copies what `adapt` has stored in a layer such as StringLookup, beside its weights."""
    if layer is original:  # a preprocessor
        return
    if not hasattr(original, "get_vocabulary") or not hasattr(layer, "set_vocabulary"):
        return
    lookup = getattr(original, "_lookup_layer", original)  # of a TextVectorization
    words = lookup.get_vocabulary(include_special_tokens=False)
    if len(words) and layer.get_vocabulary() != original.get_vocabulary():
        idf = getattr(lookup, "idf_weights", None)
        first = len(lookup.get_vocabulary()) - len(words)
        weights = None if idf is None else idf.numpy()[first : first + len(words)]
        layer.set_vocabulary(words, weights)


def _copy(model, copy_layer):
    """A copy of a Sequential or Functional model, not compiled and with new weights."""
    if not is_functional(model):
        kind = type(model).__name__
        raise ValueError(f"{kind} is a subclassed model, which Keras cannot copy: {_REMEDY}")
    try:
        copy = rebuilt(model, copy_layer)
    except CopyError:
        raise
    except Exception as error:  # custom layers may raise anything
        raise CopyError(
            f"model {model.name!r} cannot be copied ({_first_line(error)}): {_REMEDY}"
        ) from error
    # A model may share its InputLayers with a nested one. Its copy does not.
    layers, originals = (
        [
            layer
            for layer in each._flatten_layers()
            if not isinstance(layer, keras.layers.InputLayer)
        ]
        for each in (copy, model)
    )
    kinds, kinds_before = ([type(layer).__name__ for layer in each] for each in (layers, originals))
    if kinds != kinds_before:
        lost = [kind for kind in kinds_before if kinds_before.count(kind) != kinds.count(kind)]
        raise CopyError(f"a copy of model {model.name!r} loses its {lost[0]}: {_REMEDY}")
    for layer, original in zip(layers, originals):
        # A configuration does not tell which layers inside of layers are frozen.
        layer._trainable = original._trainable
        if getattr(original, "lora_enabled", False):
            # When Keras builds the layer, it replaces the alpha of the configuration.
            layer.lora_alpha = original.lora_alpha
        _check_layer(layer, original)
    if len(copy.weights) == len(model.weights):
        for weight, original in zip(copy.weights, model.weights):
            weight.trainable = original.trainable
    return copy


def rebuilt(
    model: keras.Model,
    copy_layer: Callable[[Any], Any],
    new_input: Callable[[Any], Any] | None = None,
) -> keras.Model:
    """Returns a Sequential or Functional model of copies of the model's layers, not compiled.

    `keras.models.clone_model` would also compile it.

    Args:
      model: the model.
      copy_layer: makes the copy of a layer or of another operation.
      new_input: makes the input for one of the model's input tensors; by default of the
        same shape.

    Raises:
      CopyError: the model's class has a constructor of its own.
    """
    copies: dict[int, Any] = {}  # a layer may be used several times
    new_input = new_input or _same_input

    if not isinstance(model, keras.Sequential) and not functional_like_constructor(type(model)):
        return _made_again(model, copy_layer)

    def copied(operation):
        if id(operation) not in copies:
            copies[id(operation)] = copy_layer(operation)
        return copies[id(operation)]

    if isinstance(model, keras.Sequential):
        start = new_input(model.inputs[0])
        layers = [start, *map(copied, model.layers)]
        return type(model)(layers, name=model.name)
    inputs = keras.tree.map_structure(new_input, model._inputs_struct)
    outputs = model._run_through_graph(inputs, operation_fn=copied)
    return type(model)(inputs, outputs, name=model.name)


def _made_again(model, copy_layer):
    """The copy of a Functional model whose class has a constructor of its own."""
    name = f"{type(model).__name__} has a constructor of its own, so Keras cannot copy"
    if type(model).get_config in (Functional.get_config, keras.Model.get_config):
        raise CopyError(f"{name} model {model.name!r}: define get_config, or {_REMEDY}")
    if copy_layer is not copy_of_layer:
        raise CopyError(
            f"{name} model {model.name!r} in another precision: build it in that precision, such "
            "as with dtype='mixed_bfloat16'"
        )
    config = model.get_config()
    # KerasHub's tokenizers have words that their configuration lacks. They are constant.
    config |= {key: getattr(model, key) for key in ("preprocessor",) if config.get(key)}
    return made_from(model, config)


def _same_input(tensor):
    layer = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=layer.name,
        optional=getattr(layer, "optional", False),
    )


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0]:.200}" if lines else type(error).__name__


def copy_of_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a new layer with the same configuration.

    Raises:
      CopyError: the layer has no configuration, or cannot be made from it.
    """
    if not isinstance(layer, keras.layers.Layer):  # an operation such as `x + y`
        return type(layer).from_config(layer.get_config())
    try:
        return made_from(layer, layer.get_config())
    except NotImplementedError as error:
        raise CopyError(f"{_named(layer)} has no get_config: define it, or {_REMEDY}") from error
    except Exception as error:  # custom layers may raise anything
        reason = _first_line(error.__cause__ or error.__context__ or error)
        raise CopyError(
            f"{_named(layer)} cannot be made from its get_config ({reason}): correct get_config, "
            f"or {_REMEDY}"
        ) from error


def made_from(layer: keras.layers.Layer, config: dict[str, Any]) -> keras.layers.Layer:
    """Returns a new layer of the same class, made from a configuration.

    The layer exists in this process, so its functions are not foreign code.
    """
    # Keras finds classes by name, and custom classes only if they are registered.
    inside = [part for each in layer._flatten_layers() for part in (each, *parts(each).values())]
    classes = {type(part).__name__: type(part) for part in inside}
    with keras.saving.custom_object_scope(classes), SafeModeScope(False):
        copy = type(layer).from_config(config)
    for each, original in zip(copy._flatten_layers(), layer._flatten_layers()):
        if isinstance(original, keras.layers.Lambda) and type(each) is type(original):
            each.function = original.function  # with the variables that it refers to
    return copy


def _named(layer):
    return f"layer {layer.name!r} of class {type(layer).__name__}"


def _check_layer(copy, original):
    """Raises CopyError if the copy of a layer has other settings."""
    if lacking := differing_argument(copy, original):
        raise CopyError(
            f"a copy of {_named(original)} has another {lacking!r}: add it to get_config, or "
            f"{_REMEDY}"
        )


def _check_weights(copy, model):
    """Raises CopyError if a copy has other weights than the model, or shares them."""
    expected, shapes = ([list(w.shape) for w in each.weights] for each in (model, copy))
    if shapes != expected:
        raise CopyError(
            f"the copy of model {model.name!r} has weights of shapes {shapes}: expected "
            f"{expected}; pass a function that builds the same model"
        )
    for weight, original in zip(copy.weights, model.weights):
        if not _is_same_path(weight.path, original.path):
            raise CopyError(
                f"the copy of model {model.name!r} has the weight {weight.path!r}: expected "
                f"{original.path!r}; pass a function that builds the same model"
            )
    known = {id(w) for w in model.weights}
    if shared := [w.path for w in copy.weights if id(w) in known]:
        raise CopyError(
            f"the copy of model {model.name!r} shares the weight {shared[0]!r} with the model: "
            "pass a function that makes new layers in every call"
        )


def _is_same_path(path, other):
    """Whether two paths name the same weight.

    Keras numbers layers in the order of their creation, and the path of a weight starts
    with the layer in which it was created first: with the model, if that built itself.
    """
    first, second = ([re.sub(r"_\d+$", "", part) for part in p.split("/")] for p in (path, other))
    common = min(len(first), len(second))
    return first[-common:] == second[-common:]


def non_trainable_weights(model: keras.Model) -> list[keras.Variable]:
    """Returns the non-trainable weights that clients and server exchange.

    The states of seed generators and of recurrent layers are not among them. Nor is
    what `adapt()` stores in a layer such as `StringLookup`: it is a constant, which
    `clone` copies.
    """
    return list(model.non_trainable_weights)


def ancestors(model: keras.Model) -> list[keras.Model]:
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
    if not isinstance(model, keras.Model):
        raise _checks.type_error(
            "model", model, "a compiled tf.keras model, or a function that returns one"
        )
    if not is_compiled(model) or model.loss is None:
        raise ValueError(
            f"model {model.name!r} is not compiled: call model.compile(optimizer=..., loss=..., "
            "metrics=...) first"
        )
    if not (model.built and model.weights):
        raise ValueError(
            f"model {model.name!r} has no weights yet: call it on a batch, or "
            "model.build(input_shape), first"
        )


def check_finite(model: keras.Model) -> None:
    """Raises ValueError if a weight of the model is not a finite number."""
    for weight in (*model.trainable_weights, *non_trainable_weights(model)):
        value = weight.numpy()
        if value.dtype.kind in "fV" and not np.isfinite(value.astype(np.float32)).all():
            wrong = "nan" if np.isnan(value.astype(np.float32)).any() else "inf"
            raise ValueError(
                f"model {model.name!r} has {wrong} in its weight {weight.path!r}: expected finite "
                "numbers; its training diverged, load another model"
            )


def recompile(copy: keras.Model, model: keras.Model) -> keras.Model:
    """Compiles `copy` like `model`, with new metrics and a new optimizer.

    Args:
      copy: a copy of `model`, or `model` itself.
      model: a compiled Keras model.

    Returns:
      `copy`.
    """
    arguments = compile_arguments(model)
    # The model's own optimizer: compile() may have put one with loss scaling around it.
    arguments["optimizer"] = copy_optimizer(model.optimizer)
    arguments["auto_scale_loss"] = False
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = keras.tree.map_structure(copy_metric, arguments.get(name))
    for name in inspect.signature(type(model).compile).parameters:
        if name not in arguments and hasattr(model, name):  # such as KerasHub's samplers
            arguments[name] = getattr(model, name)
    excluded = weight_decay_exclusions(model.optimizer, model.weights)
    copy.compile(**arguments)
    _exclude_from_weight_decay(copy, excluded)
    return copy


def _exclude_from_weight_decay(copy, excluded):
    # By position: the names of a copy's variables may differ.
    exclude_from_weight_decay(copy.optimizer, [w for w, out in zip(copy.weights, excluded) if out])


def weight_arrays(model: keras.Model) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the model's weights as arrays: (trainable, non-trainable)."""
    trainable, non_trainable = model.trainable_weights, non_trainable_weights(model)
    return [w.numpy() for w in trainable], [w.numpy() for w in non_trainable]


def weight_name(variable: keras.Variable) -> str:
    """Returns the name of a model's weight for messages, such as "dense/kernel"."""
    return variable.path


def with_weights(
    model: keras.Model, trainable: Iterable[Any], non_trainable: Iterable[Any]
) -> keras.Model:
    """Sets the model's weights, given in the form of `weight_arrays`, and returns it."""
    for variables, values in (
        (model.trainable_weights, trainable),
        (non_trainable_weights(model), non_trainable),
    ):
        for variable, value in zip(variables, values):
            variable.assign(value)
    return model
