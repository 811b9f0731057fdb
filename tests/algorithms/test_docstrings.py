"""Each public function of algorithms and aggregators has an example, and every example runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

from tests import quick
from tests.stacks import KERAS

ROOMS = ("fedlab.algorithms", "fedlab.aggregators")
MODULES = [
    f"{room}.{module.name}"
    for room in ROOMS
    for module in pkgutil.iter_modules(importlib.import_module(room).__path__)
]
MODULES += [
    "fedlab.clients.availability",
    "fedlab.clients.sampling",
    f"{KERAS}.yogi",
    "fedlab.testing.aggregator",
    "fedlab.testing.algorithm",
]


# Its example is the check of FedAvg in tests/testing/test_algorithms.py.
SLOW = ("fedlab.testing.algorithm",)


@pytest.mark.parametrize("name", quick.all_but(SLOW, MODULES))
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("room", ROOMS)
def test_public_functions_say_what_they_do(room):
    package = importlib.import_module(room)
    for name in package.__all__:
        method = getattr(package, name)
        if inspect.isfunction(method) and name != "prepare":
            parts = [
                "Returns:",
                ">>>",
                *(["Args:"] if inspect.signature(method).parameters else []),
            ]
            assert not [part for part in parts if part not in method.__doc__], name
