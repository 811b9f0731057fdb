"""How Keras 2 saves models: what its files contain, and how Keras rebuilds a model from them."""

import copy
import functools
import inspect
from typing import Any

import tensorflow as tf

from fedlab.learner.keras2.graph import compile_arguments

VERSION = 2
READS_SAVED_MODELS = True
"""Whether Keras loads SavedModel folders as Keras models."""

VALUES = frozenset(
    """
    __tuple__ __ellipsis__ __tensor__ __numpy__ __bytes__ TensorShape TypeSpec CompositeTensor
    InputSpec
    """.split()
)
"""The "classes" of plain values in Keras's JSON: tuples, shapes, arrays."""

TYPE_SPEC_PACKAGES = ("tensorflow", "keras")
"""The packages of which a file may name a TypeSpec."""

OPERATIONS = frozenset(("TFOpLambda", "SlicingOpLambda"))
"""Classes that call the TensorFlow function that their configuration names."""

# Keras's own classes that have no public name.
INTERNAL_CLASSES = frozenset(
    "ConvLSTMCell Functional LossFunctionWrapper MeanMetricWrapper SlicingOpLambda "
    "SumOverBatchSizeMetricWrapper TFOpLambda".split()
)
# Modules of tf.keras with functions that a model's configuration may name.
FUNCTION_MODULES = (
    "activations",
    "losses",
    "metrics",
    "initializers",
    "regularizers",
    "constraints",
)


@functools.cache
def class_names() -> frozenset[str]:
    """Returns the names of Keras's own classes that a model's configuration may contain."""
    keras = tf.keras
    modules = [
        keras,
        keras.layers,
        keras.layers.experimental,
        keras.layers.experimental.preprocessing,
        keras.models,
        keras.optimizers,
        keras.optimizers.experimental,
        keras.optimizers.legacy,
        keras.optimizers.schedules,
        keras.mixed_precision,
        keras.losses,
        keras.metrics,
        keras.initializers,
        keras.regularizers,
        keras.constraints,
    ]
    return INTERNAL_CLASSES.union(
        name
        for module in modules
        for name in dir(module)
        if isinstance(getattr(module, name), type)
    )


@functools.cache
def function_names() -> frozenset[str]:
    """Returns the names of Keras's own functions that a model's configuration may contain."""
    modules = [getattr(tf.keras, name) for name in FUNCTION_MODULES]
    return frozenset(
        name
        for module in modules
        for name in dir(module)
        if callable(getattr(module, name)) and not name.startswith("_")
    ) - {"deserialize", "serialize", "get"}


def weight_path(model: tf.keras.Model, weight: tf.Variable) -> str:
    """Returns the path of a weight in its model, such as "gru/gru_cell/kernel"."""
    return weight.name.removesuffix(":0")


def is_own_class(module: str | None, name: str) -> bool:
    """Returns whether a file may name this class."""
    return name in class_names() and (
        module in (None, "builtins", "keras") or str(module).startswith("keras.")
    )


def is_own_function(module: str | None, name: str) -> bool:
    """Returns whether a file may name this function."""
    known = module in (None, "builtins") or str(module).removeprefix("keras.") in FUNCTION_MODULES
    return known and name in function_names()


def from_config(config: Any, safe_mode: bool) -> tf.keras.Model:
    """Returns the model that a .keras archive describes, without the archive's weights.

    Args:
      config: the parsed `config.json`.
      safe_mode: as in `tf.keras.models.load_model`.
    """
    from keras.src.saving import saving_lib
    from keras.src.saving.serialization_lib import ObjectSharingScope

    enabled = getattr(saving_lib._SAVING_V3_ENABLED, "value", False)
    saving_lib._SAVING_V3_ENABLED.value = True  # losses have the form of this file format
    try:
        with ObjectSharingScope():
            # Keras changes the configuration that it reads.
            return tf.keras.saving.deserialize_keras_object(
                copy.deepcopy(config), safe_mode=safe_mode
            )
    finally:
        saving_lib._SAVING_V3_ENABLED.value = enabled


def names_in_hdf5(group: Any, name: str) -> list[str]:
    """Returns a list of names that Keras has stored as attributes of an HDF5 group.

    Args:
      group: an `h5py.Group`.
      name: of the list, such as "layer_names".
    """
    from keras.src.saving.legacy.hdf5_format import load_attributes_from_hdf5_group

    return load_attributes_from_hdf5_group(group, name)


def saved_model_configs(metadata: bytes) -> list[str]:
    """Returns the JSON texts in the `keras_metadata.pb` of a SavedModel, one per Keras object.

    Raises:
      Exception: the file is damaged; protocol buffers have exceptions of their own.
    """
    from keras.protobuf import saved_metadata_pb2

    parsed = saved_metadata_pb2.SavedMetadata()
    parsed.ParseFromString(metadata)
    return [node.metadata for node in parsed.nodes]


def has_legacy_optimizer(training: Any) -> bool:
    """Returns whether saved training settings have an optimizer of `tf.keras.optimizers.legacy`.

    Keras 2.14 writes .keras archives with such an optimizer, but cannot read them.
    """
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    return isinstance(optimizer, dict) and optimizer.get("module") == "keras.optimizers.legacy"


def replace_legacy_optimizer(model: tf.keras.Model) -> tf.keras.Model:
    """Replaces a legacy optimizer by the new one of the same name, if Keras has one.

    The settings stay the same. Moments and step counts are lost.

    Args:
      model: a Keras model, which is changed.

    Returns:
      The model.
    """
    old = model.optimizer
    new_class = getattr(tf.keras.optimizers, type(old).__name__, None)
    if not isinstance(old, tf.keras.optimizers.legacy.Optimizer) or new_class is None:
        return model
    config = old.get_config()
    allowed = inspect.signature(new_class.__init__).parameters
    settings = {
        name: value for name, value in config.items() if name in allowed and name != "learning_rate"
    }
    rate = config["learning_rate"]
    if isinstance(rate, dict):
        rate = tf.keras.optimizers.schedules.deserialize(rate)
    elif decay := config.get("decay"):
        # rate / (1 + decay * step), which is a schedule for the new optimizers
        rate = tf.keras.optimizers.schedules.InverseTimeDecay(float(rate), 1, float(decay))
    arguments = compile_arguments(model)
    arguments["optimizer"] = new_class(**settings, learning_rate=rate)
    model.compile(**arguments)
    return model


def restore_training(model: tf.keras.Model, training: Any, weights: Any) -> None:
    """Does nothing: Keras 2 has no models that compile themselves in their own way."""
