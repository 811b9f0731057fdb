"""What a compiled Keras model computes, as JSON.

This describes the layers and their connections, the loss, the metrics and the
optimizer. The values of weights are left out, and so are initializers, which have no
effect once the weights exist. Keras numbers layers in the order of their creation in a
process, so that the same code gives a second model other names. Here, names are
numbered within the model.
"""

import re
from typing import Any

import keras

from fedlab import _fingerprint
from fedlab.learner.copying import own_config
from fedlab.learner.keras3.cloning import is_adapted
from fedlab.learner.keras3.graph import compile_arguments, is_functional
from fedlab.learner.weight_decay import weight_decay_exclusions

_NUMBERED = re.compile(r"(.*?)(?:_(\d+))?", re.DOTALL)
_LEFT_OUT = {
    "name",
    "build_config",
    "batch_input_shape",
    "build_input_shape",
    "registered_name",
    "module",
}


def identity(model: keras.Model) -> dict[str, Any]:
    """Returns the identity of a compiled model, setting -> JSON value.

    Models with the same identity and the same weights train alike.

    Example:
      >>> layers = keras.layers
      >>> model = keras.Sequential([keras.Input([2]), layers.Dense(1), layers.Dropout(0.5)])
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
            f"{w.dtype} {list(w.shape)}{'' if w.trainable else ' not trainable'}"
            for w in model.weights
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
    config.pop("name", None)
    excluded = weight_decay_exclusions(optimizer, model.trainable_weights)
    if any(excluded):
        config["weights_without_decay"] = [i for i, out in enumerate(excluded) if out]
    return {"class": type(optimizer).__name__, **config, **_code(optimizer)}


class _Model:
    """Reads the parts of a model and numbers their names."""

    def __init__(self, model):
        names = {layer.name for layer in model._flatten_layers()}
        for each in model._flatten_layers():
            if is_functional(each):
                # Input layers, and operations such as `x + y`.
                names |= {operation.name for operation in _operations(each)}
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
        if is_functional(model) and not isinstance(model, keras.Sequential):
            found = self._functional(model)
        else:
            found = {"layers": [self.layer(layer) for layer in model.layers]}
        inputs = model.inputs if is_functional(model) else []
        return {
            **found,
            "inputs": [f"{each.dtype} {each.shape}" for each in inputs],
            **_code(model),
        }

    def _functional(self, model):
        try:
            config = keras.src.models.functional.Functional.get_config(model)
            nodes = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}
        except Exception:  # an argument of a layer's call cannot be expressed in JSON
            return {"layers": [self.layer(layer) for layer in model.layers]}
        layers = [
            {**self.layer(each), "inbound_nodes": self._clean(nodes[each.name])}
            for each in _operations(model)
        ]
        ends = {name: self._clean(config[name]) for name in ("input_layers", "output_layers")}
        return {"layers": layers, **ends}

    def layer(self, layer):
        """A layer's class and settings."""
        described = {
            "class": type(layer).__name__,
            "name": self._names.get(layer.name, layer.name),
            "trainable": getattr(layer, "trainable", None),
        }
        if isinstance(layer, keras.Model):
            return {**described, **self.network(layer)}
        own = _code(layer)
        try:
            config = layer.get_config()
        except Exception:  # missing or wrong in a custom layer; needed only for saving
            config = {}
        if isinstance(layer, keras.layers.Lambda):
            # The function in the configuration has line numbers.
            config = {**config, "function": layer.function}
        inner = getattr(layer, "_layers", ()) if own else ()
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
            value = keras.losses.get(value)  # "mse" is mean_squared_error
        if isinstance(value, (keras.losses.Loss, keras.metrics.Metric)):
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
        if isinstance(value, keras.layers.Layer):
            return self.layer(value)
        return _fingerprint.plain(value, traced=True)


def _operations(model):
    """The layers and other operations of a Functional model."""
    return getattr(model, "_functional", model).operations


def _adapted(layer):
    """The state that `adapt` has computed for a preprocessing layer."""
    if not is_adapted(layer):
        return {}
    words = layer.get_vocabulary() if hasattr(layer, "get_vocabulary") else []
    arrays = [_fingerprint.plain(w.numpy()) for w in layer.weights]
    arrays.append(_fingerprint.plain(getattr(layer, "bin_boundaries", None)))
    return {"adapted": _fingerprint.digest([repr(words), arrays])}


def _is_called(name, function):
    """Whether `compile(metrics=[name])` gives a metric of this function."""
    # For these names, Keras chooses the function by the model's outputs.
    if name in ("accuracy", "acc", "crossentropy", "ce"):
        return not _fingerprint.is_own(function)
    try:
        return keras.metrics.get(name) is function
    except ValueError:
        return False


def _code(value):
    """The code of a custom class, and the attributes that its constructor sets."""
    code = _fingerprint.class_code(type(value))
    return {} if code is None else {"code": code, "attributes": _fingerprint.attributes(value)}
