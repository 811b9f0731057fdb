"""How Keras 3 saves models: what its files contain, and how Keras rebuilds a model from them."""

import copy
import functools
from typing import Any

import keras

READS = "3."
"""The versions of Keras whose .keras archives can be read start with this."""

# Keras's own classes that have no public name.
INTERNAL_CLASSES = frozenset(
    "CompileLoss CompileMetrics ConvLSTMCell Functional LossFunctionWrapper MeanMetricWrapper "
    "SumOverBatchSizeMetricWrapper".split()
)
# Modules of Keras with functions that a model's configuration may name.
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
    """Returns the names of Keras's own classes that a model's configuration may contain.

    Among them are the operations of Functional models, such as the `Add` of `x + y`.
    """
    modules = [
        keras,
        keras.layers,
        keras.models,
        keras.optimizers,
        keras.optimizers.schedules,
        keras.dtype_policies,
        keras.losses,
        keras.metrics,
        keras.initializers,
        keras.random,
        keras.regularizers,
        keras.constraints,
    ]
    public = {
        name
        for module in modules
        for name in dir(module)
        if isinstance(getattr(module, name), type)
    }
    return INTERNAL_CLASSES | public | _operations()


def _operations():
    from keras.src.ops import core, image, linalg, math, nn, numpy, operation

    return {
        name
        for module in (core, image, linalg, math, nn, numpy)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, operation.Operation)
    }


@functools.cache
def function_names() -> frozenset[str]:
    """Returns the names of Keras's own functions that a model's configuration may contain."""
    modules = [getattr(keras, name) for name in FUNCTION_MODULES]
    return frozenset(
        name
        for module in modules
        for name in dir(module)
        if callable(getattr(module, name)) and not name.startswith("_")
    ) - {"deserialize", "serialize", "get"}


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
    raise ValueError(
        "Keras 3 reads no SavedModel folders; load it with Keras 2 and save it as an HDF5 file"
    )


def has_legacy_optimizer(training: Any) -> bool:
    """Returns False: Keras 3 has no legacy optimizers."""
    return False


def replace_legacy_optimizer(model: keras.Model) -> keras.Model:
    """Returns the model: Keras 3 has no legacy optimizers."""
    return model
