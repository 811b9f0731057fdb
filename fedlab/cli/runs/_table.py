"""Tables and JSON, as these subcommands print them. This module is fast to import."""

import json
import math

from fedlab._text import visible


def text(rows):
    """Returns rows of cells as aligned lines, without columns that have only a title."""
    columns = [[*map(visible, column)] for column in zip(*rows) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths)).rstrip()
        for cells in zip(*columns)
    ]
    return "\n".join(lines)


def dumps(value):
    """Returns strict JSON, in which NaN and infinity are null."""
    text = json.dumps(finite(value), ensure_ascii=False, indent=1, allow_nan=False)
    # JSON does not escape all control characters of terminals.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def finite(value):
    """Returns the value with None instead of NaN and infinity."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_line(text):
    """Returns a text on one line of at most 100 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"
