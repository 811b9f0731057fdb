"""The examples in the docstrings of the data sets."""

import doctest
import importlib
import pathlib

import pytest

import fedlab.datasets

MODULES = sorted(
    path.stem
    for path in pathlib.Path(fedlab.datasets.__path__[0]).glob("*.py")
    if path.stem not in ("__init__", "shakespeare", "squad")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(f"fedlab.datasets.{name}")).failed == 0
