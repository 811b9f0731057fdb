"""Translates the configuration of a model between Keras 2 and Keras 3.

The tables in `_conversion_tables.py` say what is translated. Everything else is refused,
so nothing but the standard layers and settings in these tables is ever written.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from fedlab.models import _conversion_graph as graphs
from fedlab.models import _conversion_tables as tables

_MODELS = ("Functional", "Model", "Sequential")
_POLICIES = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "mixed_float16",
    "mixed_bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
    "string",
)
# Keys of an object besides its configuration. What a model is built and compiled with is
# handled on its own; layers are built when they are called.
_KEYS = {
    "module",
    "class_name",
    "config",
    "registered_name",
    "build_config",
    "compile_config",
    "shared_object_id",
    "name",
    "inbound_nodes",
}


class ConversionError(ValueError):
    """A model cannot be translated. The message names the layer or setting."""


def to_keras2(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configuration of a model, as Keras 2 saves it.

    Args:
      item: the configuration as Keras 3 saves it: the parsed `config.json` of an archive,
        without `compile_config`.

    Raises:
      ConversionError: it has a layer or setting that Keras 2 does not have.

    Example:
      >>> inputs = {"class_name": "InputLayer", "config": {"batch_shape": [None, 2], "name": "x"}}
      >>> config = to_keras2({"class_name": "Sequential", "config": {"layers": [inputs]}})
      >>> config["config"]["layers"][0]["config"]["batch_input_shape"]
      [None, 2]
    """
    return _guarded(_Translator(2).model, item)


def to_keras3(item: Mapping[str, Any]) -> dict[str, Any]:
    """Does the opposite of `to_keras2`. The configuration may be that of an HDF5 file."""
    return _guarded(_Translator(3).model, item)


def training_to(version: int, training: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the training settings of a model for Keras `version`, 2 or 3.

    Args:
      version: the version of Keras that will read them.
      training: the `compile_config` of an archive, or the `training_config` of an HDF5
        file.

    Raises:
      ConversionError: a loss, metric or optimizer cannot be translated.
    """
    return _guarded(_Translator(version).training, training)


def _guarded(translate, item):
    """Calls `translate`, which raises other errors if the configuration is malformed."""
    try:
        return translate(item)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConversionError(f"its configuration is damaged ({error!r:.100})") from None
    except RecursionError:
        raise ConversionError("its configuration is nested too deeply") from None


class _Translator:
    """Translates to Keras `to` from the other version."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.shared: set[int] = set()

    # ---- Models and layers ----

    def model(self, item: Any) -> dict[str, Any]:
        class_name, config = self._opened(item, "model")
        if class_name not in _MODELS:
            raise ConversionError(
                f"model of class {class_name!r:.100}: expected a Sequential or Functional model "
                "of standard layers"
            )
        if isinstance(config, list):  # early Sequential models
            config = {"layers": config}
        if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise ConversionError(f"model of class {class_name!r}: expected a list of layers")
        where = f"model {config.get('name')!r:.100}"
        known = {"name", "trainable", "dtype", "layers", "build_input_shape"}
        known |= set() if class_name == "Sequential" else {"input_layers", "output_layers"}
        if unknown := sorted(config.keys() - known):
            raise ConversionError(f"{where}: {unknown[0]}: expected no such setting")
        if not all(isinstance(layer, dict) for layer in config["layers"]):
            raise ConversionError(f"{where}: expected a list of layers")
        try:
            if class_name == "Sequential":
                translated = self._sequential(config, where)
            else:
                translated = self._functional(config, where)
        except graphs.GraphError as error:
            raise ConversionError(f"{where}: {error}") from None
        return translated

    def _sequential(self, config, where):
        layers = [self.layer(layer) for layer in config["layers"]]
        names = [layer["config"]["name"] for layer in layers if "name" in layer["config"]]
        if len(set(names)) < len(names):
            raise ConversionError(f"{where}: expected layers of different names")
        new = {"name": config.get("name", "sequential"), "layers": layers}
        if self.to == 3:
            new |= {"trainable": config.get("trainable", True), "dtype": _policy_3("float32")}
        elif config.get("trainable") is False:
            raise ConversionError(
                f"{where}: trainable=False: expected True, as Keras 2 does not save this of a "
                "Sequential model; freeze its layers instead"
            )
        if (shape := config.get("build_input_shape")) is not None:
            new["build_input_shape"] = self.plain(shape, where, "build_input_shape")
        return {
            "module": "keras",
            "class_name": "Sequential",
            "config": new,
            "registered_name": None,
        }

    def _functional(self, config, where):
        missing = {"input_layers", "output_layers"} - config.keys()
        if missing:
            raise ConversionError(f"{where}: {sorted(missing)[0]}: expected a list of tensors")
        for layer in config["layers"]:
            if not isinstance(layer.get("name"), str) or not isinstance(
                layer.get("inbound_nodes"), list
            ):
                raise ConversionError(f"{where}: expected the name and calls of each layer")
        try:
            if self.to == 3:
                config = graphs.with_positions_as_sums(config)
            graph = (graphs.read_keras2 if self.to == 3 else graphs.read_keras3)(config)
        except graphs.GraphError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise ConversionError(f"{where}: expected the calls of its layers") from None
        layers = {}
        classes = {layer["name"]: layer["class_name"] for layer in config["layers"]}
        for layer in config["layers"]:
            if (name := layer["name"]) in graph.calls:
                if name in layers:
                    raise ConversionError(f"{where}: expected layers of different names")
                if graphs.is_operation(layer):
                    layers[name], graph.calls[name][:] = self._operation(layer, graph.calls[name])
                    continue
                layers[name] = self.layer(layer)
                graph.calls[name][:] = [
                    self._call(call, name, classes[name]) for call in graph.calls[name]
                ]
        self._translate_masks(graph, layers, where)
        names = graphs.order(graph)
        if self.to == 3:
            _check_order(graph, layers, where)
        written = (graphs.write_keras2 if self.to == 2 else graphs.write_keras3)(graph, layers)
        for name, layer in layers.items():
            layer |= {"name": name, "inbound_nodes": written["inbound_nodes"][name]}
        new = {
            "name": config.get("name", "model"),
            "trainable": config.get("trainable", True) is not False,
            "layers": [layers[name] for name in names],
            "input_layers": written["input_layers"],
            "output_layers": written["output_layers"],
        }
        module = "keras.src.engine.functional" if self.to == 2 else "keras.src.models.functional"
        return {
            "module": module,
            "class_name": "Functional",
            "config": new,
            "registered_name": "Functional",
        }

    def _operation(self, layer, calls):
        """Translates an operation such as `x + y`, and its calls."""
        self._opened(layer, "operation")
        name, config = layer["name"], layer.get("config") or {}
        where = f"operation {name!r:.100}"
        class_name = graphs.operation_class(layer)
        if class_name is None:
            function = config.get("function", layer["class_name"])
            raise ConversionError(
                f"{where} ({function!s:.100}): expected standard layers, or one of the operations "
                f"{', '.join(tables.OPERATIONS)}"
            )
        operation = tables.OPERATIONS[class_name]
        if self.to == 2:
            settings = {key: value for key, value in config.items() if key != "name"}
            if unknown := sorted(settings.keys() - operation.settings.keys()):
                raise ConversionError(f"{where}: {unknown[0]}: expected no such setting")
            settings = {
                operation.settings[key]: self.plain(value, where, key)
                for key, value in settings.items()
                if value is not None
            }
            new = [
                graphs.Call(
                    call.inputs,
                    {
                        operation.arguments[key]: self._argument(value, where, key)
                        for key, value in call.others.items()
                    }
                    | settings,
                )
                for call in calls
            ]
            class_name = "SlicingOpLambda" if class_name == "GetItem" else "TFOpLambda"
            item = self._object(
                "keras.layers", class_name, {"name": name, "function": operation.function}
            )
        else:
            names = {old: new for new, old in operation.arguments.items()}
            settings_3: dict[str, Any] = {}
            new = []
            for call in calls:
                others, given = {}, {}
                for key, value in call.others.items():
                    value = self._argument(value, where, key)
                    if key in names:
                        others[names[key]] = _written(value) if key == "slice_spec" else value
                    elif key in operation.settings.values():
                        given |= {key: value} if value is not None else {}
                    elif key != "name" and value != tables.OPERATION_DEFAULTS_2.get(key, value):
                        raise ConversionError(f"{where}: {key}={value!r:.100}: not in Keras 3")
                    elif key != "name" and key not in tables.OPERATION_DEFAULTS_2:
                        raise ConversionError(f"{where}: {key}: expected no such argument")
                if new and given != settings_3:
                    raise ConversionError(f"{where}: expected the same settings in all calls")
                settings_3 = given
                new.append(graphs.Call(call.inputs, others))
            item = self._object(
                f"keras.src.ops.{operation.module}", class_name, {"name": name, **settings_3}
            )
            item["registered_name"] = class_name
        for call in new:
            if not isinstance(call.inputs, graphs.Ref):
                raise ConversionError(f"{where}: expected a tensor as its first argument")
        return item, new

    def _argument(self, value, where, name):
        if isinstance(value, graphs.Ref):
            return value
        if isinstance(value, dict) and value.keys() <= {"start", "stop", "step"}:
            parts = {part: value.get(part) for part in ("start", "stop", "step")}
            return {key: self.plain(part, where, name) for key, part in parts.items()}
        if isinstance(value, dict) and value.get("class_name") == "__tuple__":
            value = value["config"]["value"] if "config" in value else value["items"]
        if isinstance(value, list):
            return [self._argument(part, where, name) for part in value]
        return self.plain(value, where, name)

    def _translate_masks(self, graph, layers, where):
        """Changes the shapes of masks that attention takes for several heads.

        The masks of values are [batch, 1, length] in Keras 2, and [batch, 1, 1, length] in
        Keras 3.
        """
        old, new = ([1, -1], [1, 1, -1])[:: 1 if self.to == 3 else -1]
        masks: set[str] = set()
        uses: dict[str, int] = {}
        for name, calls in graph.calls.items():
            for call in calls:
                for ref in call.refs():
                    uses[ref.layer] = uses.get(ref.layer, 0) + 1
                if layers.get(name, {}).get("class_name") not in ("Attention", "AdditiveAttention"):
                    continue
                for ref in graphs.leaves(call.others.get("mask")):
                    uses[ref.layer] -= 1
                    if layers.get(ref.layer, {}).get("class_name") == "Reshape":
                        masks.add(ref.layer)
        for name in masks:
            config = layers[name]["config"]
            if list(config.get("target_shape") or ()) != old or uses[name]:
                raise ConversionError(
                    f"{where}: mask {name!r}: expected a Reshape to {old}, used for attention only"
                )
            config["target_shape"] = new

    def _call(self, call, name, class_name):
        where = f"layer {name!r} ({class_name})"
        known = {*tables.CALLS.get(class_name, ()), "mask", "training"}
        if unknown := sorted(call.others.keys() - known):
            raise graphs.GraphError(f"{where}: argument {unknown[0]!r:.100} cannot be converted")
        others = {key: value for key, value in call.others.items() if value is not None}
        if others.get("training") is not None:
            raise graphs.GraphError(
                f"{where}: it is called with training={others['training']}, which Keras 3 does "
                "not keep; call it without, and use trainable=False"
            )
        call = graphs.Call(call.inputs, others)
        if class_name in tables.WITH_STATES:
            call = (graphs.with_states_joined if self.to == 2 else graphs.with_states_named)(call)
        return call

    def layer(self, item: Any) -> dict[str, Any]:
        class_name, config = self._opened(item, "layer")
        label = config.get("name", item.get("name")) if isinstance(config, dict) else None
        where = f"layer {label!r:.100} ({class_name})"
        self._check_not_shared(item, where)
        if class_name in _MODELS:
            return self.model(item)
        if not isinstance(config, dict):
            raise ConversionError(f"{where}: expected its settings")
        if class_name == "InputLayer":
            return self._object("keras.layers", class_name, self._input(config, where))
        if graphs.is_operation(item):
            raise ConversionError(
                f"{where}: expected standard layers; Keras {self.to} has no such operation in a "
                "file, use a layer such as Add or Multiply"
            )
        rule = tables.LAYERS.get(class_name)
        if rule is None:
            raise ConversionError(
                f"{where}: expected a standard layer that Keras 2 and Keras 3 compute alike"
            )
        config = dict(config)
        if self.to == 3:
            config.pop("batch_input_shape", None)
        if class_name == "Bidirectional" and self.to == 2:
            config = _without_derived_layer(config)
        common = {key: config.pop(key) for key in ("name", "trainable", "dtype") if key in config}
        new = self.settings(rule, config, where)
        self._check_values(class_name, new, where)
        if "name" in common:
            new["name"] = self.plain(common["name"], where, "name")
        if "trainable" in common and class_name not in tables.NOT_TRAINABLE:
            new["trainable"] = common["trainable"] is not False
        if class_name == "TextVectorization":
            if self.to == 2:
                new["dtype"] = "string"
        elif "dtype" in common:
            new["dtype"] = self.policy(common["dtype"], where)
        if class_name == "BatchNormalization" and isinstance(new.get("axis"), list):
            if len(new["axis"]) != 1:
                raise ConversionError(f"{where}: axis={new['axis']}: expected one axis")
            (new["axis"],) = new["axis"]
        if class_name == "MultiHeadAttention" and self.to == 2:
            new |= self._attention_shapes(item, where)
        return self._object("keras.layers", class_name, new)

    def _attention_shapes(self, item, where):
        """Keras 2 saves the shapes that a MultiHeadAttention was built with as settings."""
        shapes = (item.get("build_config") or {}).get("shapes_dict") or {}
        value = shapes.get("value_shape")
        return {
            f"{name}_shape": self.plain(shapes.get(f"{name}_shape", value), where, "shape")
            for name in ("query", "key", "value")
        }

    def _input(self, config, where):
        known = {
            "batch_input_shape", "batch_shape", "dtype", "sparse", "ragged", "name", "optional",
        }  # fmt: skip
        if unknown := sorted(config.keys() - known):
            raise ConversionError(f"{where}: {unknown[0]}: expected no such setting")
        for key in ("ragged", "sparse", "optional"):
            if config.get(key):
                raise ConversionError(f"{where}: {key}={config[key]!r:.100}: expected False")
        shape = config.get("batch_input_shape", config.get("batch_shape"))
        new = {
            "batch_input_shape" if self.to == 2 else "batch_shape": self.plain(
                shape, where, "batch_shape"
            ),
            "dtype": self.plain(config.get("dtype", "float32"), where, "dtype"),
            "sparse": False,
            "ragged": False,
        }
        if "name" in config:
            new["name"] = self.plain(config["name"], where, "name")
        return new

    def _check_values(self, class_name, new, where):
        if class_name.endswith("Lookup") or class_name == "TextVectorization":
            if isinstance(new.get("vocabulary"), str):
                raise ConversionError(
                    f"{where}: vocabulary={new['vocabulary']!r:.100}: expected a list of words; "
                    "files are not read"
                )
            if new.get("output_mode") == "tf_idf" and new.get("idf_weights") is None:
                raise ConversionError(
                    f"{where}: output_mode='tf_idf': expected a vocabulary and idf_weights in its "
                    "settings, as adapted weights are not saved by both versions"
                )
        if class_name == "Discretization" and new.get("bin_boundaries") is None:
            raise ConversionError(
                f"{where}: bin_boundaries=None: expected a list; adapted boundaries cannot be "
                "converted"
            )

    def _check_not_shared(self, item, where):
        if (shared := item.get("shared_object_id")) is not None:
            if shared in self.shared:
                raise ConversionError(
                    f"{where}: it is part of two models; expected layers of one model each"
                )
            self.shared.add(shared)

    # ---- Settings ----

    def settings(self, rule: tables.Rule, config: Any, where: str) -> dict[str, Any]:
        """Translates settings by a rule; those that only the source has are checked and dropped."""
        if not isinstance(config, dict):
            raise ConversionError(f"{where}: expected settings")
        extra = rule.keras2 if self.to == 3 else rule.keras3
        names = rule.renamed if self.to == 3 else {new: old for old, new in rule.renamed.items()}
        new = {}
        for name, value in config.items():
            if name in rule.both or name in names:
                translated = self.setting(name, value, where)
                if name in rule.values and translated not in rule.values[name]:
                    raise ConversionError(
                        f"{where}: {name}={translated!r:.100}: expected one of "
                        f"{', '.join(map(repr, rule.values[name]))}, which Keras 2 and Keras 3 "
                        "compute alike"
                    )
                new[names.get(name, name)] = translated
            elif name not in extra:
                raise ConversionError(
                    f"{where}: {name}={value!r:.100}: expected no such setting; Keras {self.to} "
                    "does not have it"
                )
            elif extra[name] is not tables.ANY and value != extra[name]:
                raise ConversionError(
                    f"{where}: {name}={value!r:.100}: expected {extra[name]!r}; Keras {self.to} "
                    "does not have this setting"
                )
        return new

    def setting(self, name: str, value: Any, where: str) -> Any:
        if name.endswith("_initializer"):
            return self.part(tables.INITIALIZERS, "keras.initializers", value, where, name)
        if name.endswith("_regularizer"):
            return self.part(tables.REGULARIZERS, "keras.regularizers", value, where, name)
        if name.endswith("_constraint"):
            return self.part(tables.CONSTRAINTS, "keras.constraints", value, where, name)
        if name.endswith("activation"):
            return self.activation(value, where, name)
        if name in ("layer", "cell", "backward_layer"):
            return None if value is None else self.layer(value)
        if name == "cells":
            return [self.layer(cell) for cell in value]
        if name == "learning_rate" and isinstance(value, dict) and "class_name" in value:
            return self.part(tables.SCHEDULES, "keras.optimizers.schedules", value, where, name)
        return self.plain(value, where, name)

    def part(
        self, rules: Mapping[str, tables.Rule], module: str, value: Any, where: str, name: str
    ) -> Any:
        """Translates an initializer, regularizer, constraint, loss, metric, and the like."""
        if value is None:
            return None
        if isinstance(value, str):
            value = {"class_name": _class_name(value), "config": {}}
        class_name, config = self._opened(value, f"{where}: {name}")
        class_name = _class_name(class_name)
        if class_name not in rules:
            raise ConversionError(
                f"{where}: {name} of class {class_name!r:.100}: expected one of "
                f"{', '.join(sorted(rules))}"
            )
        config = {key: value for key, value in (config or {}).items()}
        common = {key: config.pop(key) for key in ("name",) if key in config}
        new = self.settings(rules[class_name], config, f"{where}: {name} ({class_name})")
        if isinstance(common.get("name"), str):
            new["name"] = common["name"]
        return self._object(module, class_name, new)

    def activation(self, value: Any, where: str, name: str) -> Any:
        if value is None:
            return None
        function = _function_name(value)
        names = tables.ACTIVATIONS
        if self.to == 2:
            names = {new: old for old, new in names.items()} | {"swish": "swish"}
        elif function == "silu":
            function = "swish"
        if function not in names:
            raise ConversionError(
                f"{where}: {name}={function!r:.100}: expected one of {', '.join(sorted(names))}, "
                "which Keras 2 and Keras 3 compute alike"
            )
        return names[function]

    def policy(self, value: Any, where: str) -> Any:
        name = value
        if isinstance(value, dict):
            class_name, config = self._opened(value, f"{where}: dtype")
            if class_name not in ("Policy", "DTypePolicy", "FloatDTypePolicy"):
                raise ConversionError(
                    f"{where}: dtype of class {class_name!r:.100}: expected a plain dtype policy"
                )
            name = (config or {}).get("name")
        if name not in _POLICIES:
            raise ConversionError(
                f"{where}: dtype={name!r:.100}: expected one of {', '.join(_POLICIES)}"
            )
        if self.to == 3:
            return _policy_3(name)
        if name.startswith("mixed_"):
            return {
                "module": "keras.mixed_precision",
                "class_name": "Policy",
                "config": {"name": name},
                "registered_name": None,
            }
        return name

    def plain(self, value: Any, where: str, name: str) -> Any:
        """Checks a value of numbers, texts and lists; arrays become lists."""
        if isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
            value = (value.get("config") or {}).get("value")
        if isinstance(value, dict) and value.get("class_name") == "__tuple__":
            value = (value.get("config") or {}).get("value", value.get("items"))
        if isinstance(value, dict) and value.get("class_name") == "TensorShape":
            value = value.get("items")
        if isinstance(value, list):
            return [self.plain(part, where, name) for part in value]
        if isinstance(value, dict):
            raise ConversionError(
                f"{where}: {name} of class {value.get('class_name')!r:.100}: expected numbers or "
                "texts"
            )
        return value

    def _opened(self, item, where):
        if not isinstance(item, dict) or not isinstance(item.get("class_name"), str):
            raise ConversionError(f"{where}: expected an object with a class_name")
        class_name = item["class_name"]
        module, registered = item.get("module"), item.get("registered_name")
        if module is not None and not re.fullmatch(r"builtins|keras(\.[a-z_0-9]+)*", str(module)):
            raise ConversionError(
                f"{where}: custom class {class_name!r:.100} of module {module!r:.100}"
            )
        if registered not in (None, class_name):
            raise ConversionError(f"{where}: custom class {registered!r:.100}")
        if unknown := sorted(item.keys() - _KEYS):
            raise ConversionError(f"{where}: {unknown[0]}: expected no such key")
        return class_name, item.get("config")

    def _object(self, module, class_name, config):
        return {
            "module": module,
            "class_name": class_name,
            "config": config,
            "registered_name": None,
        }

    # ---- Training settings ----

    def training(self, training: Any) -> dict[str, Any]:
        if not isinstance(training, dict):
            raise ConversionError("training settings: expected an object")
        training = dict(training)
        if "optimizer_config" in training:  # of an HDF5 file
            training["optimizer"] = training.pop("optimizer_config")
            training.pop("sample_weight_mode", None)
        known = {
            "optimizer", "loss", "metrics", "loss_weights", "weighted_metrics", "run_eagerly",
            "steps_per_execution", "jit_compile", "auto_scale_loss",
        }  # fmt: skip
        if unknown := sorted(training.keys() - known):
            raise ConversionError(f"{unknown[0]} in compile(): expected no such argument")
        if training.get("optimizer") is None:
            raise ConversionError("optimizer=None in compile(): expected an optimizer")
        new = {"optimizer": self._optimizer(training["optimizer"])}
        for name, translate in (
            ("loss", self._loss),
            ("metrics", self._metric),
            ("weighted_metrics", self._metric),
            ("loss_weights", lambda value: self.plain(value, "compile()", "loss_weights")),
        ):
            new[name] = self._nested(training.get(name), translate)
        for name in ("run_eagerly", "steps_per_execution", "jit_compile"):
            if (value := training.get(name)) not in (None, "auto"):
                new[name] = self.plain(value, "compile()", name)
        return new

    def _nested(self, value: Any, translate: Callable[[Any], Any]) -> Any:
        if value is None:
            return None
        if isinstance(value, list):
            return [self._nested(part, translate) for part in value]
        if isinstance(value, dict) and not isinstance(value.get("class_name"), str):
            return {name: self._nested(part, translate) for name, part in value.items()}
        return translate(value)

    def _optimizer(self, value):
        if isinstance(value, str):
            value = {"class_name": value, "config": {}}
        class_name, config = self._opened(value, "optimizer")
        if self.to == 3:
            # Keras 2 writes its own optimizers in HDF5 files as if a program had registered them.
            class_name = class_name.removeprefix("Custom>")
        classes = {name.lower(): name for name in tables.OPTIMIZERS}
        class_name = classes.get(class_name.lower(), class_name)
        config = dict(config or {})
        if str(value.get("module")) == "keras.optimizers.legacy" or config.get("decay") == 0.0:
            # The optimizers before Keras 2.11 have a decay.
            if config.pop("decay", 0.0):
                raise ConversionError("optimizer: decay: expected 0; use a schedule")
        if class_name == "LossScaleOptimizer":
            raise ConversionError(
                "optimizer of class 'LossScaleOptimizer': expected its inner optimizer; both "
                "versions wrap it when the dtype policy is mixed_float16"
            )
        new = self.part(
            tables.OPTIMIZERS,
            "keras.optimizers",
            {"class_name": class_name, "config": config},
            "compile()",
            "optimizer",
        )
        if self.to == 2 and new["config"].get("ema_overwrite_frequency", 0) is None:
            if class_name == "RMSprop":
                new["config"].pop("ema_overwrite_frequency")
        return new

    def _loss(self, value):
        function = _function_name(value)
        if function is not None:
            if function not in tables.LOSS_FUNCTIONS:
                raise ConversionError(f"loss={function!r:.100}: expected a loss of Keras")
            return function
        value = self._without_dtype(value)
        config = value.get("config")
        reduction = config.get("reduction", "auto") if isinstance(config, dict) else None
        reductions = {"auto": "sum_over_batch_size", "sum_over_batch_size": "sum_over_batch_size"}
        reductions |= {"sum": "sum", "none": "none", None: "none"}
        if reduction not in reductions:
            raise ConversionError(
                f"loss: reduction={reduction!r:.100}: expected 'sum_over_batch_size', 'sum' or "
                "'none'"
            )
        value = {**value, "config": {**config, "reduction": reductions[reduction]}}
        if self.to == 2 and reductions[reduction] == "sum_over_batch_size":
            value["config"]["reduction"] = "auto"
        return self.part(tables.LOSSES, "keras.losses", value, "compile()", "loss")

    def _metric(self, value):
        function = _function_name(value)
        if function is not None:
            if function not in tables.METRIC_FUNCTIONS:
                raise ConversionError(f"metric={function!r:.100}: expected a metric of Keras")
            return function
        value = self._without_dtype(value)
        if value["class_name"] == "MeanMetricWrapper" and self.to == 3:
            return self._metric(_wrapped_function(value["config"]))
        return self.part(tables.METRICS, "keras.metrics", value, "compile()", "metric")

    def _without_dtype(self, value):
        self._opened(value, "compile()")
        config = dict(value.get("config") or {})
        dtype = config.pop("dtype", None)
        if dtype is not None and self.policy(dtype, "compile()") not in (
            "float32",
            _policy_3("float32"),
        ):
            raise ConversionError("compile(): dtype of a loss or metric: expected float32")
        return {**value, "config": config}


def _written(key):
    """The key of `x[key]`, as Keras 3 saves it."""

    def part(value):
        if isinstance(value, dict):
            return {"class_name": "__slice__", "config": value}
        return value

    if isinstance(key, dict):
        return [part(key)]  # Keras 3 takes a slice only in a list
    return [part(value) for value in key] if isinstance(key, list) else key


def _check_order(graph, layers, where):
    """Refuses models whose weights Keras 3 may list in another order than is computed here.

    Keras 3 adds the operations that compute masks to the graph. They can only change the
    place of layers in front of a layer that makes a mask.
    """
    before: set[str] = set()
    for name, layer in layers.items():
        if layer["class_name"] == "Masking" or layer["config"].get("mask_zero"):
            before |= graphs.ancestors(graph, name)
    for name in before:
        for other, layer in layers.items():
            if (
                layer["class_name"] == layers[name]["class_name"] != "InputLayer"
                and other != name
                and other not in graphs.ancestors(graph, name)
                and name not in graphs.ancestors(graph, other)
            ):
                raise ConversionError(
                    f"{where}: layers {name!r} and {other!r}: the order of their weights depends "
                    "on masks; expected no layer of the same kind in front of a mask"
                )


def _without_derived_layer(config):
    """Leaves out the backward layer of a Bidirectional if it is a copy of the forward layer."""

    def bare(layer):
        inner = layer.get("config") if isinstance(layer, dict) else None
        inner = dict(inner) if isinstance(inner, dict) else {}
        name, backwards = inner.pop("name", None), inner.pop("go_backwards", None)
        return str(name).partition("_")[2], bool(backwards), _without_ids(inner)

    forward, backward = (bare(config.get(key)) for key in ("layer", "backward_layer"))
    config = dict(config)
    if (forward[0], not forward[1], forward[2]) == backward:
        del config["backward_layer"]
    layer = config["layer"]
    if isinstance(layer, dict) and isinstance(layer.get("config"), dict):
        name = str(layer["config"].get("name")).removeprefix("forward_")
        config["layer"] = {**layer, "config": {**layer["config"], "name": name}}
    return config


def _without_ids(value):
    if isinstance(value, dict):
        return {key: _without_ids(part) for key, part in value.items() if key != "shared_object_id"}
    return [_without_ids(part) for part in value] if isinstance(value, list) else value


def _policy_3(name):
    return {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": name},
        "registered_name": None,
    }


def _function_name(value):
    """The name of a function: a text, or an object of class "function"; else None."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value.get("class_name") == "function":
        return str(value.get("config"))
    return None


def _wrapped_function(config):
    """The text that was given to compile() for a metric that an HDF5 file of Keras 2 holds."""
    function, name = str(config.get("fn")), config.get("name")
    is_accuracy = name in ("acc", "accuracy") and function.endswith("_accuracy")
    return name if is_accuracy else function


def _class_name(name):
    """Names such as "glorot_uniform" and "l2" as names of classes."""
    if name.lower() != name:
        return name
    special = {"l1": "L1", "l2": "L2", "l1_l2": "L1L2", "zeros": "Zeros", "ones": "Ones"}
    return special.get(name, "".join(part.capitalize() for part in name.split("_")))
