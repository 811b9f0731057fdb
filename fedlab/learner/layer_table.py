"""The layers of a model as a table: shapes and numbers of parameters, for people to read."""

import math
from typing import Any


def layer_table(model: Any) -> list[dict[str, Any]]:
    """Returns one row per layer of a Keras model.

    Returns:
      A list of dicts: name, class, output (the shapes as texts, [] if unknown),
      parameters, trainable_parameters.

    Example:
      >>> import keras
      >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dense(3, name="scores")])
      >>> [row["parameters"] for row in layer_table(model)][-1]
      9
    """
    return [
        {
            "name": layer.name,
            "class": type(layer).__name__,
            "output": _output_shapes(layer),
            "parameters": _num_parameters(layer.weights),
            "trainable_parameters": _num_parameters(layer.trainable_weights),
        }
        for layer in model.layers
    ]


def _num_parameters(weights: Any) -> int:
    # Lookup tables have no shape.
    return sum(math.prod(w.shape) for w in weights if hasattr(w, "shape"))


def _output_shapes(layer: Any) -> list[str]:
    import tensorflow as tf

    try:
        outputs = tf.nest.flatten(layer.output)
    except (AttributeError, RuntimeError, ValueError):  # not connected, or used several times
        return []
    return [str(tuple(each.shape)) for each in outputs if hasattr(each, "shape")]
