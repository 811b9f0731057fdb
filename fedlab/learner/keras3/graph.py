"""The layers of a Keras 3 model, their connections, and the arguments of `compile()`."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional


def is_functional(model: Any) -> bool:
    """Returns whether a model is Functional, or Sequential and built.

    The inputs, outputs and connections of these models are known. A subclass that
    computes something else in its `call` is not Functional.
    """
    if isinstance(model, keras.Sequential):
        return model._functional is not None and _has_call_of(model, keras.Sequential)
    return isinstance(model, Functional) and _has_call_of(model, Functional)


def _has_call_of(model, cls):
    return type(model).call is cls.call


def is_compiled(model: keras.Model) -> bool:
    """Returns whether a model has been compiled."""
    return bool(model.compiled)


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """Returns the arguments that a compiled model's `compile()` was called with.

    `get_compile_config` would serialize them and lose plain functions.
    """
    return dict(model._compile_config.config)


def layers_of(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers of a model, or inside of a layer, with those nested in other layers.

    A shared layer is returned once.
    """
    layers = model._flatten_layers(include_self=False)
    return list({id(layer): layer for layer in layers}.values())


def input_names(model: keras.Model) -> Sequence[str]:
    """Returns the names of a Functional model's inputs, or () for another model."""
    return (
        [tensor._keras_history.operation.name for tensor in model.inputs]
        if is_functional(model)
        else ()
    )


def inputs_of(layer: keras.layers.Layer) -> list[Any]:
    """Returns the symbolic tensors that a layer is called on in Functional models."""
    return [tensor for node in layer._inbound_nodes for tensor in node.input_tensors]


def calls(model: keras.Model) -> Iterator[tuple[Any, tuple, tuple]]:
    """Yields (layer, shape of its first input, shape of its first output) of each call.

    The calls are those that a Functional model consists of. A call of a nested model is one.
    """
    functional = model._functional if isinstance(model, keras.Sequential) else model
    for nodes in functional._nodes_by_depth.values():
        for node in nodes:
            if not node.is_input:
                inputs, outputs = node.input_tensors[0], node.output_tensors[0]
                yield node.operation, tuple(inputs.shape), tuple(outputs.shape)


def output_layer(model: keras.Model) -> keras.layers.Layer:
    """Returns the layer that computes a Functional model's first output; never a nested model."""
    layer = model
    while is_functional(layer):
        layer = layer.outputs[0]._keras_history.operation
    return layer


def embeddings_of(model: keras.Model, name: str) -> list[keras.layers.Layer]:
    """Returns the embedding layers, nested ones included, that read the input of this name."""

    def reads_input(layer: keras.layers.Layer) -> bool:
        return any(t._keras_history.operation.name == name for t in inputs_of(layer))

    return [
        layer for layer in layers_of(model) if hasattr(layer, "embeddings") and reads_input(layer)
    ]
