"""Which Keras the tests run with."""

import importlib
from importlib import metadata
from types import ModuleType

import pytest

IS_KERAS_3 = int(metadata.version("keras").partition(".")[0]) == 3

KERAS = f"fedlab.learner.keras{3 if IS_KERAS_3 else 2}"
"""The package that implements `fedlab.learner`."""

keras_3 = pytest.mark.skipif(not IS_KERAS_3, reason="tests what fedlab does with Keras 3")
keras_2 = pytest.mark.skipif(IS_KERAS_3, reason="tests what fedlab does with Keras 2")


def float64_loss(cls, **options):
    """A loss that computes in float64; Keras 3 would round a float64 model's outputs to float32."""
    return cls(**options, **({"dtype": "float64"} if IS_KERAS_3 else {}))


def module_for_keras_2(name: str) -> ModuleType:
    """Imports a module of `fedlab.learner.keras2`, or skips the calling test module."""
    if IS_KERAS_3:
        pytest.skip(f"{name} is for Keras 2", allow_module_level=True)
    return importlib.import_module(name)
