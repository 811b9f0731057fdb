"""Tables of text and JSON, as these subcommands print them. Nothing here is slow to import."""

import json
import math

from fedlab._text import visible


def text(rows):
    """Rows of cells, the first with the titles, as aligned lines; columns in which every cell below the title is empty are left out."""
    columns = [[*map(visible, column)] for column in zip(*rows) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths)).rstrip()
        for cells in zip(*columns)
    ]
    return "\n".join(lines)


def dumps(value):
    """JSON that every reader takes: numbers that are none are null."""
    text = json.dumps(finite(value), ensure_ascii=False, indent=1, allow_nan=False)
    # JSON escapes only some of the characters that a terminal obeys.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def finite(value):
    """The value with None in place of numbers that JSON does not know."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_line(text):
    """A text from a file, in a line of at most 100 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"
