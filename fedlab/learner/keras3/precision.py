"""Mixed precision: layers compute in another precision than their weights are stored in."""

import contextlib
from collections.abc import Callable

import keras

from fedlab import _checks
from fedlab.learner.keras3.cloning import clone, copy_of_layer, made_from
from fedlab.learner.keras3.graph import is_functional, layers_of

PRECISIONS = ("float32", "bfloat16")

_POLICY = "mixed_bfloat16"


def in_precision(build: Callable[[], keras.Model], precision: str) -> Callable[[], keras.Model]:
    """Returns a function that builds the model of `build` with another precision.

    "bfloat16" is Keras's policy `mixed_bfloat16`. Weights, gradients, updates and saved
    models stay float32. Layers round their inputs and weights to 8 significant bits.
    Output layers compute in float32, as Keras recommends, so that probabilities and
    losses are not rounded. Layers with an explicit precision keep it.

    Args:
      build: returns a compiled model: a copy, or a new model, whose layers then follow
        Keras's global policy.
      precision: "float32" (which returns `build` itself) or "bfloat16".

    Raises:
      ValueError: the precision is unknown. The returned function raises it if no layer
        of the model would compute in that precision.
    """
    if precision not in PRECISIONS:
        raise _checks.value_error("precision", precision, " or ".join(map(repr, PRECISIONS)))
    if precision == "float32":
        return build

    def build_mixed():
        with _global_policy():
            model = build()
            if is_functional(model):
                model = clone(model, copy_layer=lambda layer: _mixed_copy(layer, model))
        if not any(
            layer.compute_dtype == precision and layer.weights for layer in layers_of(model)
        ):
            raise ValueError(
                f"precision={precision!r}: expected 'float32', since model {model.name!r} has no "
                f"layer that would compute in {precision}"
            )
        return model

    return build_mixed


@contextlib.contextmanager
def _global_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICY)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _mixed_copy(layer, model):
    if not isinstance(layer, keras.layers.Layer):  # an operation such as `x + y`
        return copy_of_layer(layer)
    outputs = [tensor._keras_history.operation for tensor in model.outputs]
    is_output = any(layer is output for output in outputs)
    return made_from(layer, _mixed(layer.get_config(), is_output))


def _mixed(config, is_output):
    """The configuration of a layer or model, without its output layers, in mixed precision."""
    if "layers" not in config:
        return config if is_output else _replace_dtype(config)
    if "output_layers" in config:
        names = {n for n in keras.tree.flatten(config["output_layers"]) if isinstance(n, str)}
    else:  # Sequential
        names = {layer["config"]["name"] for layer in config["layers"][-1:]}
    parts = [
        {**part, "config": _part(part, is_output and part["config"].get("name") in names)}
        for part in config["layers"]
    ]
    return {**config, "layers": parts}


def _part(part, is_output):
    return (
        part["config"] if part["class_name"] == "InputLayer" else _mixed(part["config"], is_output)
    )


def _replace_dtype(value):
    if isinstance(value, dict):
        return {
            name: _POLICY if name == "dtype" and _is_float32(item) else _replace_dtype(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(map(_replace_dtype, value))
    return value


def _is_float32(dtype):
    """Whether a configuration's dtype, a name or the configuration of a policy, is float32."""
    if isinstance(dtype, dict):
        dtype = dtype.get("config", {}).get("name")
    return dtype == "float32"
