"""Which parameters of a test run by default. The others are slow, and run in CI."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def only(quick: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Returns the values as parameters, of which all but the quick ones are marked slow."""
    values = list(values)
    _check_names(quick, values)
    return all_but([value for value in values if value not in quick], values)


def all_but(slow: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Returns the values as parameters, of which the slow ones are marked."""
    values = list(values)
    _check_names(slow, values)
    return [
        pytest.param(value, marks=pytest.mark.slow) if value in slow else value for value in values
    ]


def _check_names(names: Collection[Any], values: list[Any]) -> None:
    unknown = [name for name in names if name not in values]
    assert not unknown, unknown
