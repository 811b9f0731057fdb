"""How Keras 3 saves models: what its files contain, and how Keras rebuilds a model from them.

The `safe_mode` of Keras only refuses lambdas. Keras looks up each class and function of a
file by its module and name, in its whole public interface, and imports the module if it
does not find it there. The functions here name what a file may contain: the classes that
make up models, under the modules that Keras itself writes, and the functions that compute
with tensors.
"""

import copy
import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

import keras

from fedlab.learner.keras3.graph import layers_of

VERSION = 3
READS_SAVED_MODELS = False
"""Whether Keras loads SavedModel folders as Keras models."""

VALUES = frozenset("__tensor__ __numpy__ __bytes__ __ellipsis__ __slice__ __keras_tensor__".split())
"""The "classes" of plain values, which Keras rebuilds without looking anything up."""

TYPE_SPEC_PACKAGES: tuple[str, ...] = ()
"""The packages of which a file may name a TypeSpec. Keras 3 does not load any."""

FUNCTION_MODULES = (
    "activations",
    "losses",
    "metrics",
    "initializers",
    "regularizers",
    "constraints",
)
"""Modules of Keras with functions that a model's configuration may name."""

OPERATIONS: frozenset[str] = frozenset()
"""Classes that call the TensorFlow function that their configuration names."""

_CLASS_MODULES = (
    "keras",
    "keras.layers",
    "keras.models",
    "keras.optimizers",
    "keras.optimizers.schedules",
    "keras.losses",
    "keras.metrics",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.mixed_precision",
    "keras.random",
)
# Layers that run code or read a file that their configuration names.
_UNSAFE = frozenset("Lambda TFSMLayer TorchModuleWrapper JaxLayer FlaxLayer".split())
_OPERATION_MODULES = ("core", "einops", "image", "linalg", "math", "nn", "numpy")
# Operations that call functions.
_CALLING = frozenset(
    "AssociativeScan Cond ForiLoop Map Scan Switch Vectorize VectorizedMap WhileLoop".split()
)


@functools.cache
def _classes() -> dict[str, frozenset[str]]:
    """Module -> the names of its classes that a file may contain."""
    kinds = (
        keras.layers.Layer,
        keras.optimizers.Optimizer,
        keras.optimizers.schedules.LearningRateSchedule,
        keras.losses.Loss,
        keras.metrics.Metric,
        keras.initializers.Initializer,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
        keras.dtype_policies.DTypePolicy,
        keras.random.SeedGenerator,
    )
    found = {}
    for module in _CLASS_MODULES:
        value: Any = keras
        for part in module.split(".")[1:]:
            value = getattr(value, part)
        found[module] = frozenset(
            name
            for name, each in vars(value).items()
            if isinstance(each, type) and issubclass(each, kinds) and name not in _UNSAFE
        )
    found["keras.src.models.functional"] = frozenset(["Functional"])
    return found | _operations()


def _operations():
    from keras.src import ops

    return {
        f"keras.src.ops.{module}": frozenset(
            name
            for name, each in vars(getattr(ops, module)).items()
            if isinstance(each, type)
            and issubclass(each, keras.Operation)
            and each.__module__ == f"keras.src.ops.{module}"
            and name not in _CALLING
        )
        for module in _OPERATION_MODULES
        if inspect.ismodule(getattr(ops, module, None))
    }


def operation_in(config: Any) -> str | None:
    """Returns the class of an operation, such as `x + y`, in the configuration of an HDF5 file.

    Keras 3 writes operations there, but looks for layers of these names when it loads the
    file.
    """
    layers = _get(_get(config, "config"), "layers")
    for node in layers if isinstance(layers, list) else ():
        name, inner = _get(node, "class_name"), _get(node, "config")
        if _get(inner, "layers") is not None:
            if found := operation_in(node):
                return found
        # Every layer but an InputLayer says whether it is trainable.
        elif isinstance(name, str) and name in _operation_names():
            if _get(inner, "trainable") is None:
                return name
    return None


def _get(value, name):
    """An item of parsed JSON, in which anything may be something else than a dict."""
    return value.get(name) if isinstance(value, dict) else None


@functools.cache
def _operation_names() -> frozenset[str]:
    return frozenset().union(*_operations().values())


@functools.cache
def _legacy_names() -> frozenset[str]:
    """The classes that an HDF5 file may contain, which names no modules."""
    names = frozenset().union(
        *(names for module, names in _classes().items() if not module.startswith("keras.src.ops"))
    )
    return names


@functools.cache
def _functions() -> dict[str, frozenset[str]]:
    """Module -> the names of its functions that a file may contain."""
    return {
        f"keras.{module}": frozenset(
            name
            for name, each in vars(getattr(keras, module)).items()
            if inspect.isfunction(each) and not name.startswith("_")
        )
        - {"deserialize", "serialize", "get"}
        for module in FUNCTION_MODULES
    }


def weight_path(model: keras.Model, weight: keras.Variable) -> str:
    """Returns the path of a weight in its model, such as "gru/gru_cell/kernel"."""
    return weight.path.removeprefix(f"{model.name}/")


def is_own_class(module: str | None, name: str) -> bool:
    """Returns whether a file may name this class, which Keras then finds without an import."""
    if module is None:
        return name in _legacy_names()
    return name in _classes().get(module, ())


def is_own_function(module: str | None, name: str) -> bool:
    """Returns whether a file may name this function."""
    if module is None or module == "builtins":
        return any(name in names for names in _functions().values())
    return name in _functions().get(module, ())


def from_config(config: Any, safe_mode: bool) -> keras.Model:
    """Returns the model that a .keras archive describes, without the archive's weights.

    Args:
      config: the parsed `config.json`.
      safe_mode: as in `keras.models.load_model`.
    """
    from keras.src.saving.serialization_lib import ObjectSharingScope

    with ObjectSharingScope():
        # Keras changes the configuration that it reads.
        return keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=safe_mode)


def load_hdf5(path: Any, compile: bool, safe_mode: bool) -> keras.Model:
    """Returns the model of an HDF5 file that Keras 3 saved.

    Args:
      path: the file, with any suffix.
      compile, safe_mode: as in `keras.models.load_model`.
    """
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "r") as file:
        model = legacy_h5_format.load_model_from_hdf5(file, compile=False, safe_mode=safe_mode)
        for layer in layers_of(model):
            if hasattr(layer, "get_vocabulary") and layer.get_config()["vocabulary"] is None:
                raise ValueError(
                    f"layer {layer.name!r} has no words, as HDF5 files do not keep those of adapt()"
                )
        if compile:
            _compile_from_hdf5(model, file)
    return model


def _compile_from_hdf5(model, file):
    """Compiles a model as it was saved.

    Keras 3 saves loss="mse" as "mse", but does not find this name when it loads the file.
    It restores optimizers without momenta, which then refuse to train.
    """
    from keras.src.legacy.saving.legacy_h5_format import load_optimizer_weights_from_hdf5_group

    training = json.loads(file.attrs["training_config"])
    for argument, get, _ in _MEASURES:
        for name in _strings(training.get(argument)):
            if name not in _CHOSEN_BY_KERAS:
                get(name)  # raises ValueError if Keras does not have it
    optimizer = keras.optimizers.deserialize(training["optimizer_config"])
    model.compile(
        optimizer,
        loss_weights=training.get("loss_weights"),
        **{
            argument: _deserialized(training.get(argument), deserialize)
            for argument, _, deserialize in _MEASURES
        },
    )
    if "optimizer_weights" in file:
        values = load_optimizer_weights_from_hdf5_group(file)
        if len(values) > len(optimizer.variables):
            optimizer.build(model.trainable_variables)
        for variable, value in zip(optimizer.variables, values, strict=True):
            variable.assign(value)


_MEASURES = (
    ("loss", keras.losses.get, keras.losses.deserialize),
    ("metrics", keras.metrics.get, keras.metrics.deserialize),
    ("weighted_metrics", keras.metrics.get, keras.metrics.deserialize),
)
_CHOSEN_BY_KERAS = ("accuracy", "acc", "crossentropy", "ce")  # by the shapes of the outputs


def _strings(config: Any) -> list[str]:
    """Returns the losses or metrics of saved training settings that are strings."""
    if isinstance(config, str):
        return [config]
    if isinstance(config, list) or (isinstance(config, dict) and "class_name" not in config):
        parts = config.values() if isinstance(config, dict) else config
        return [name for part in parts for name in _strings(part)]
    return []


def _deserialized(config: Any, deserialize: Callable[[Any], Any]) -> Any:
    """Returns saved losses or metrics as an argument of `compile`; strings stay strings."""
    if isinstance(config, dict) and "class_name" in config:
        return deserialize(config)
    if isinstance(config, dict):
        return {name: _deserialized(each, deserialize) for name, each in config.items()}
    if isinstance(config, list):
        return [_deserialized(each, deserialize) for each in config]
    return config


def load_hdf5_weights(model: keras.Model, path: Any) -> None:
    """Sets the weights of a model from an HDF5 file with a model of the same layers.

    Args:
      model: a built Keras model.
      path: a file that Keras 2 saved.

    Raises:
      ValueError: the file has other layers, or weights of other shapes.
    """
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import load_weights_from_hdf5_group

    with h5py.File(path, "r") as file:
        group = file["model_weights"]
        stored = [
            name
            for name in names_in_hdf5(group, "layer_names")
            if names_in_hdf5(group[name], "weight_names")
        ]
        wanted = [layer.name for layer in model.layers if layer.weights]
        if stored != wanted:
            raise ValueError(f"its layers with weights are {stored}, expected {wanted}")
        load_weights_from_hdf5_group(group, model)


def names_in_hdf5(group: Any, name: str) -> list[str]:
    """Returns a list of names that Keras has stored as attributes of an HDF5 group.

    Args:
      group: an `h5py.Group`.
      name: of the list, such as "layer_names".
    """
    from keras.src.legacy.saving.legacy_h5_format import load_attributes_from_hdf5_group

    return load_attributes_from_hdf5_group(group, name)


def saved_model_configs(metadata: bytes) -> list[str]:
    """Raises ValueError: Keras 3 does not load SavedModel folders as Keras models."""
    raise ValueError("Keras 3 does not load SavedModel folders")


def has_legacy_optimizer(training: Any) -> bool:
    """Returns False: Keras 3 has no legacy optimizers."""
    return False


def replace_legacy_optimizer(model: keras.Model) -> keras.Model:
    """Returns the model: Keras 3 has no legacy optimizers."""
    return model


def restore_training(model: keras.Model, training: Any, weights: Any) -> None:
    """Compiles a model as it was saved, if its class compiles itself in its own way.

    The models of KerasHub do. Keras leaves them compiled with their defaults.

    Args:
      model: a model that Keras has loaded from an archive.
      training: the `compile_config` of the archive.
      weights: the path of the archive's weights, which include the optimizer's state.
    """
    if type(model).compile is keras.Model.compile:
        return
    model.compile(**keras.saving.deserialize_keras_object(training))
    model.optimizer.build(model.trainable_variables)
    model.load_weights(weights)
