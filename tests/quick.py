"""Which parameters of a test run by default. The others are slow, and run in CI."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def only(quick: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Returns the values as parameters, of which all but the quick ones are marked slow."""
    values = list(values)
    assert all(value in values for value in quick), quick
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values
    ]
