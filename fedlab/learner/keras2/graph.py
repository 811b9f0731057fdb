"""The layers of a Keras 2 model, their connections, and the arguments of `compile()`."""

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf


def is_functional(model: Any) -> bool:
    """Returns whether a model is Functional, or Sequential and built.

    The inputs, outputs and connections of these models are known, and Keras can copy
    them.
    """
    return bool(getattr(model, "_is_graph_network", False))


def is_compiled(model: tf.keras.Model) -> bool:
    """Returns whether a model has been compiled."""
    return getattr(model, "_compile_config", None) is not None


def compile_arguments(model: tf.keras.Model) -> dict[str, Any]:
    """Returns the arguments that a compiled model's `compile()` was called with.

    `get_compile_config` would serialize them and lose plain functions.
    """
    return dict(model._compile_config.config)


def layers_of(model: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
    """Returns the layers of a model, or inside of a layer, with those nested in other layers."""
    return list(model._flatten_layers(include_self=False))


def input_names(model: tf.keras.Model) -> Sequence[str]:
    """Returns the names of a Functional model's inputs, or () for another model."""
    return model.input_names if is_functional(model) else ()


def inputs_of(layer: tf.keras.layers.Layer) -> list[Any]:
    """Returns the symbolic tensors that a layer is called on in Functional models."""
    return [
        tensor for node in layer.inbound_nodes for tensor in tf.nest.flatten(node.input_tensors)
    ]


def calls(model: tf.keras.Model) -> Iterator[tuple[Any, tuple, tuple]]:
    """Yields (layer, shape of its first input, shape of its first output) of each call.

    The calls are those that a Functional model consists of. A call of a nested model is one.
    """
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            if not node.is_input:
                outputs = tf.nest.flatten(node.outputs)
                yield node.layer, tuple(node.keras_inputs[0].shape), tuple(outputs[0].shape)


def output_layer(model: tf.keras.Model) -> tf.keras.layers.Layer:
    """Returns the layer that computes a Functional model's first output; never a nested model."""
    layer = model
    while is_functional(layer):
        layer = layer.outputs[0]._keras_history.layer
    return layer


def embeddings_of(model: tf.keras.Model, name: str) -> list[tf.keras.layers.Layer]:
    """Returns the embedding layers, nested ones included, that read the input of this name."""

    def reads_input(layer: tf.keras.layers.Layer) -> bool:
        history = getattr(layer.get_input_at(0), "_keras_history", None)
        return history is not None and history.layer.name == name

    return [
        layer
        for layer in layers_of(model)
        if hasattr(layer, "embeddings") and layer.inbound_nodes and reads_input(layer)
    ]
