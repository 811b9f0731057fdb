"""What a compiled Keras model computes, as JSON: its layers and how they are connected, its loss, metrics and optimizer.

The weights' values are left out, and so are initializers, which have no effect once there are weights. Keras numbers layers as they
are made in a process, so that a second model of the same script has other names. Here, names are numbered within the model.
"""

import re

import tensorflow as tf
from keras.src.engine import functional
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab import _fingerprint

_NUMBERED = re.compile(r"(.*?)(?:_(\d+))?", re.DOTALL)
_LEFT_OUT = {
    "name",
    "build_config",
    "batch_input_shape",
    "build_input_shape",
    "registered_name",
    "module",
}


def identity(model):
    """The identity of a compiled model: setting -> JSON value. Models of which it is the same train alike from the same weights.

    Example:
      >>> def rates(rate):
      ...     model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[2]), tf.keras.layers.Dropout(rate)])
      ...     model.compile("sgd", "mse")
      ...     return [layer.get("rate") for layer in identity(model)["layers"]]
      >>> rates(0.5)
      [None, 0.5]
    """
    arguments = dict(model._compile_config.config)
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
    """Metrics of a model with one output, which Keras nests in one more list where it has read them from an HDF5 file."""
    return (
        metrics[0]
        if isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list)
        else metrics
    )


def _optimizer(model):
    optimizer = model.optimizer
    config = _fingerprint.plain(optimizer.get_config(), traced=True)
    use_decay = getattr(optimizer, "_use_weight_decay", None)
    if use_decay is not None:
        without = [i for i, weight in enumerate(model.trainable_weights) if not use_decay(weight)]
        if without:
            config["weights_without_decay"] = without
    return {"class": type(optimizer).__name__, **config, **_code(optimizer)}


class _Model:
    """Reads the parts of a model, whose names it numbers."""

    def __init__(self, model):
        names = {layer.name for layer in model._flatten_layers()}
        names |= {
            layer.name
            for layer in getattr(model, "_self_tracked_trackables", ())
            if hasattr(layer, "name")
        }  # its InputLayers
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
        except TypeError:  # an argument of a call is no JSON
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
        except (
            Exception
        ):  # a custom layer's may be missing or fail; Keras asks for it only when a model is saved
            config = {}
        if isinstance(layer, tf.keras.layers.Lambda):
            config = {
                **config,
                "function": layer.function,
            }  # in the configuration it has line numbers
        inner = (
            [
                self.layer(each)
                for each in layer._flatten_layers(recursive=False, include_self=False)
            ]
            if own
            else []
        )
        kept = self._clean({name: value for name, value in config.items() if name not in described})
        return {
            **described,
            **kept,
            **own,
            **_adapted(layer),
            **({"layers": inner} if inner else {}),
        }

    def compiled(self, value, is_loss=False):
        """An argument of `compile`: texts, functions, objects, and lists and dicts of them."""
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
        except Exception:  # as of a layer
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
        """A part of a configuration without what changes from build to build, and with the names of layers numbered."""
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
    """What a preprocessing layer has learned from data by `adapt`."""
    if not isinstance(layer, PreprocessingLayer):
        return {}
    words = layer.get_vocabulary() if hasattr(layer, "get_vocabulary") else []
    arrays = [_fingerprint.plain(w.numpy()) for w in layer.weights if hasattr(w, "numpy")]
    return {"adapted": _fingerprint.digest([repr(words), arrays])}


def _is_called(name, function):
    """Whether `compile(metrics=[name])` gives a metric of this function. Of "accuracy", Keras chooses the function by the outputs."""
    if name in ("accuracy", "acc", "crossentropy", "ce"):
        return not _fingerprint.is_own(function)
    try:
        return tf.keras.metrics.get(name) is function
    except ValueError:
        return False


def _code(value):
    """What identifies an object of the caller's own class beside its configuration: the class's code, and what its constructor sets."""
    code = _fingerprint.class_code(type(value))
    return {} if code is None else {"code": code, "attributes": _fingerprint.attributes(value)}
