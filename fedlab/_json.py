"""JSON from files that others may have written."""

import json
import pathlib

MOST_LEVELS = 100
"""How deeply a value from a file may be nested: far below what Python's recursion allows, so that whoever walks through it can."""


def loads(data, most_levels=None):
    """The value in a JSON text, str or bytes.

    Args:
      most_levels: how deeply it may be nested, or None for as deeply as Python can read.

    Raises:
      ValueError: it is none, whatever is wrong with it.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if most_levels is not None and _levels(value) > most_levels:
        raise ValueError(f"it is nested more than {most_levels} levels deep")
    return value


def read(file, most_levels=None):
    """The value in a file of JSON.

    Raises:
      ValueError: as `loads`, or the file is no UTF-8 text.
    """
    try:
        text = pathlib.Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text, at byte {error.start}") from None
    return loads(text, most_levels)


def _levels(value):
    levels, inner = 0, [value]
    while inner := [
        each for outer in inner if isinstance(outer, (list, dict)) for each in _items(outer)
    ]:
        levels += 1
    return levels


def _items(value):
    return value.values() if isinstance(value, dict) else value
