"""What a compiled Keras model computes, as JSON.

This describes the layers and their connections, the loss, the metrics and the
optimizer. The values of weights are left out, and so are initializers, which have no
effect once the weights exist. Keras numbers layers in the order of their creation in a
process, so that the same code gives a second model other names. Here, names are
numbered within the model.
"""

import re
from typing import Any

import tensorflow as tf
from keras.src.engine import functional
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab import _fingerprint
from fedlab.learner.copying import own_config
from fedlab.learner.keras2.graph import compile_arguments

_NUMBERED = re.compile(r"(.*?)(?:_(\d+))?", re.DOTALL)
_LEFT_OUT = {
    "name",
    "build_config",
    "batch_input_shape",
    "build_input_shape",
    "registered_name",
    "module",
}


def identity(model: tf.keras.Model) -> dict[str, Any]:
    """Returns the identity of a compiled model, setting -> JSON value.

    Models with the same identity and the same weights train alike.

    Example:
      >>> layers = tf.keras.layers
      >>> dense, dropout = layers.Dense(1, input_shape=[2]), layers.Dropout(0.5)
      >>> model = tf.keras.Sequential([dense, dropout])
      >>> model.compile("sgd", "mse")
      >>> [layer.get("rate") for layer in identity(model)["layers"]]
      [None, 0.5]
    """
    arguments = compile_arguments(model)
    reader = _Model(model)
    own = {f"model_{name}": value for name, value in _code(model).items()}
    return {
        "model": [type(layer).__name__ for layer in model.layers],
        **own,
        **{
            name: value
            for name, value in reader.network(model).items()
            if f"model_{name}" not in own
        },
        "weights": [
            f"{w.dtype.name} {w.shape.as_list()}{'' if w.trainable else ' not trainable'}"
            for w in model.weights
            if hasattr(w, "assign")
        ],
        "loss": reader.compiled(arguments.get("loss"), is_loss=True),
        "loss_weights": reader.compiled(arguments.get("loss_weights")),
        **{
            name: reader.compiled(_only(arguments.get(name)))
            for name in ("metrics", "weighted_metrics")
        },
        "optimizer": _optimizer(model),
    }


def _only(metrics):
    """The metrics without the additional list around those that come from an HDF5 file."""
    nested = isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list)
    return metrics[0] if nested else metrics


def _optimizer(model):
    optimizer = model.optimizer
    config = _fingerprint.plain(own_config(optimizer), traced=True)
    use_decay = getattr(optimizer, "_use_weight_decay", None)
    if use_decay is not None:
        without = [i for i, weight in enumerate(model.trainable_weights) if not use_decay(weight)]
        if without:
            config["weights_without_decay"] = without
    return {"class": type(optimizer).__name__, **config, **_code(optimizer)}


class _Model:
    """Reads the parts of a model and numbers their names."""

    def __init__(self, model):
        names = {layer.name for layer in model._flatten_layers()}
        # These include InputLayers.
        tracked = getattr(model, "_self_tracked_trackables", ())
        names |= {layer.name for layer in tracked if hasattr(layer, "name")}
        groups = {}
        for name in names:
            stem, number = _NUMBERED.fullmatch(name).groups()
            groups.setdefault(stem, []).append((-1 if number is None else int(number), name))
        self._names = {
            name: f"{stem}_{rank}" if rank else stem
            for stem, group in groups.items()
            for rank, (_, name) in enumerate(sorted(group))
        }

    def network(self, model):
        """The layers of a model, and the connections of a Functional one."""
        if isinstance(model, functional.Functional) and not isinstance(model, tf.keras.Sequential):
            found = self._functional(model)
        else:
            found = {"layers": [self.layer(layer) for layer in model.layers]}
        inputs = tf.nest.flatten(model.inputs) if model.inputs else []
        return {
            **found,
            "inputs": [f"{each.dtype.name} {each.shape}" for each in inputs],
            **_code(model),
        }

    def _functional(self, model):
        try:
            config = functional.get_network_config(model, serialize_layer_fn=self.layer)
        except TypeError:  # an argument of a layer's call cannot be expressed in JSON
            return {"layers": [self.layer(layer) for layer in model.layers]}
        for layer in config["layers"]:
            layer["name"] = self._names.get(layer["name"], layer["name"])
            layer["inbound_nodes"] = self._clean(layer["inbound_nodes"])
        ends = {name: self._clean(config[name]) for name in ("input_layers", "output_layers")}
        return {"layers": config["layers"], **ends}

    def layer(self, layer):
        """A layer's class and settings."""
        described = {
            "class": type(layer).__name__,
            "name": self._names.get(layer.name, layer.name),
            "trainable": layer.trainable,
        }
        if isinstance(layer, tf.keras.Model):
            return {**described, **self.network(layer)}
        own = _code(layer)
        try:
            config = layer.get_config()
        except Exception:  # missing or wrong in a custom layer; needed only for saving
            config = {}
        if isinstance(layer, tf.keras.layers.Lambda):
            # The function in the configuration has line numbers.
            config = {**config, "function": layer.function}
        inner = layer._flatten_layers(recursive=False, include_self=False) if own else ()
        inner = [self.layer(each) for each in inner]
        kept = self._clean({name: value for name, value in config.items() if name not in described})
        return {
            **described,
            **kept,
            **own,
            **_adapted(layer),
            **({"layers": inner} if inner else {}),
        }

    def compiled(self, value, is_loss=False):
        """An argument of `compile`: strings, functions, objects, lists and dicts of them."""
        if isinstance(value, dict):
            return {
                self._names.get(name, str(name)): self.compiled(each, is_loss)
                for name, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.compiled(each, is_loss) for each in value]
        if isinstance(value, str) and is_loss:
            value = tf.keras.losses.get(value)  # "mse" is mean_squared_error
        if isinstance(value, (tf.keras.losses.Loss, tf.keras.metrics.Metric)):
            return self._measure(value)
        return _fingerprint.plain(value, traced=True)

    def _measure(self, value):
        try:
            config = self._clean(dict(value.get_config()))
        except Exception:  # as in `layer`
            config = {}
        function = getattr(value, "fn", None) or getattr(value, "_fn", None)
        if callable(function):
            if (
                type(value).__name__ == "MeanMetricWrapper"
                and _is_called(value.name, function)
                and config.keys() <= {"name", "dtype", "fn"}
            ):
                return value.name
            config["fn"] = _fingerprint.plain(function, traced=True)
        name = (
            {"name": _NUMBERED.fullmatch(value.name).group(1)}
            if isinstance(getattr(value, "name", None), str)
            else {}
        )
        return {"class": type(value).__name__, **name, **config, **_code(value)}

    def _clean(self, value):
        """A part of a configuration without values that differ from build to build.

        Names of layers are numbered.
        """
        if isinstance(value, dict):
            kept = {
                name: each
                for name, each in value.items()
                if name not in _LEFT_OUT and not str(name).endswith("_initializer")
            }
            cleaned = {str(name): self._clean(each) for name, each in kept.items()}
            if isinstance(value.get("name"), str):
                cleaned["name"] = self._names.get(
                    value["name"], _NUMBERED.fullmatch(value["name"]).group(1)
                )
            return cleaned
        if isinstance(value, (list, tuple)):
            return [self._clean(each) for each in value]
        if isinstance(value, str):
            return self._names.get(value, value)
        if isinstance(value, tf.keras.layers.Layer):
            return self.layer(value)
        return _fingerprint.plain(value, traced=True)


def _adapted(layer):
    """The state that `adapt` has computed for a preprocessing layer."""
    if not isinstance(layer, PreprocessingLayer):
        return {}
    words = layer.get_vocabulary() if hasattr(layer, "get_vocabulary") else []
    arrays = [_fingerprint.plain(w.numpy()) for w in layer.weights if hasattr(w, "numpy")]
    return {"adapted": _fingerprint.digest([repr(words), arrays])}


def _is_called(name, function):
    """Whether `compile(metrics=[name])` gives a metric of this function."""
    # For these names, Keras chooses the function by the model's outputs.
    if name in ("accuracy", "acc", "crossentropy", "ce"):
        return not _fingerprint.is_own(function)
    try:
        return tf.keras.metrics.get(name) is function
    except ValueError:
        return False


def _code(value):
    """The code of a custom class, and the attributes that its constructor sets."""
    code = _fingerprint.class_code(type(value))
    return {} if code is None else {"code": code, "attributes": _fingerprint.attributes(value)}
