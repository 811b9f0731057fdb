"""Reading JSON that may be damaged or malicious."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

MOST_LEVELS = 100
"""A limit on nesting that is far below Python's recursion limit.

Recursive functions can process values with fewer levels.
"""


def loads(data: str | bytes, most_levels: int | None = None) -> Any:
    """Returns the value of a JSON text.

    Args:
      data: the text.
      most_levels: how deeply the value may be nested. By default, the limit is
        Python's.

    Raises:
      ValueError: the text is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if most_levels is not None and _levels(value) > most_levels:
        raise ValueError(f"it is nested more than {most_levels} levels deep")
    return value


def read(file: str | os.PathLike, most_levels: int | None = None) -> Any:
    """Returns the value in a JSON file; see `loads`.

    Raises:
      ValueError: see `loads`, or the file is not UTF-8 text.
    """
    try:
        text = pathlib.Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text, at byte {error.start}") from None
    return loads(text, most_levels)


def _levels(value: Any) -> int:
    levels, inner = 0, [value]
    while inner := [
        each for outer in inner if isinstance(outer, (list, dict)) for each in _items(outer)
    ]:
        levels += 1
    return levels


def _items(value: list | dict) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
