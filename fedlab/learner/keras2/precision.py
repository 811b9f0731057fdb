"""Models whose layers compute in another precision than their weights are kept in."""

import contextlib

import tensorflow as tf

from fedlab.learner.keras2.cloning import clone

PRECISIONS = ("float32", "bfloat16")

_POLICY = "mixed_bfloat16"


def in_precision(build, precision):
    """`build`, for models that compute in `precision`.

    "bfloat16" is Keras's policy `mixed_bfloat16`: weights, and so gradients, updates and what is saved, stay float32; layers round their
    inputs and weights to 8 significant bits. Layers that give a model's outputs compute in float32, as Keras advises, so that
    probabilities and losses are not rounded. Layers that were given a precision of their own keep it.

    Args:
      build: makes a compiled model: a copy, or one made anew, whose layers then follow Keras's global policy while it is made.
      precision: "float32" (`build` itself) or "bfloat16".

    Raises:
      ValueError: another precision; and, when building, a model without a layer that would compute in it.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision is {precision!r}; allowed: {', '.join(map(repr, PRECISIONS))}."
        )
    if precision == "float32":
        return build

    def build_mixed():
        with _global_policy():
            model = build()
            if getattr(model, "_is_graph_network", False):
                model = clone(model, copy_layer=lambda layer: _mixed_copy(layer, model))
        if not any(
            layer.compute_dtype == precision and layer.weights
            for layer in model._flatten_layers(include_self=False)
        ):
            raise ValueError(
                f"model {model.name!r} has no layer that would compute in {precision}; allowed: precision='float32'."
            )
        return model

    return build_mixed


@contextlib.contextmanager
def _global_policy():
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(_POLICY)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def _mixed_copy(layer, model):
    is_output = any(layer is output for output in model._output_layers)
    return type(layer).from_config(_mixed(layer.get_config(), is_output))


def _mixed(config, is_output):
    """The configuration of a layer, or of a model, whose own output layers are found by name."""
    if "layers" not in config:
        return config if is_output else _replace_dtype(config)
    names = {
        name for name in tf.nest.flatten(config.get("output_layers", [])) if isinstance(name, str)
    }
    if "output_layers" not in config and config["layers"]:  # Sequential
        names = {config["layers"][-1]["config"]["name"]}
    parts = [
        {**part, "config": _part(part, is_output and part["config"]["name"] in names)}
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
            name: _POLICY if name == "dtype" and item == "float32" else _replace_dtype(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        # Of these types, not of the value's own: a layer's lists become TensorFlow's wrappers, which are made in another way.
        return (list if isinstance(value, list) else tuple)(map(_replace_dtype, value))
    return value
