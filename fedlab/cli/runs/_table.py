"""Tables and JSON, as these subcommands print them. This module is fast to import."""

import json
import math
import shutil
import sys

from fedlab._text import visible

_WIDE = 24  # a wider cell is folded before a column is left out


def text(rows):
    """Returns rows of cells as aligned lines, without columns that have only a title."""
    columns = [[*map(visible, column)] for column in zip(*rows) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths)).rstrip()
        for cells in zip(*columns)
    ]
    return "\n".join(lines)


def show(rows, drop=()):
    """Prints a table: `fitted` to a terminal, and as `text` elsewhere.

    Args:
      rows: the rows; the first one has the titles.
      drop: the columns to leave out if the terminal is too narrow, the first one first.
    """
    if not sys.stdout.isatty():
        print(text(rows))
        return
    from rich.console import Console

    width = shutil.get_terminal_size().columns
    table, left_out = fitted(rows, width, drop)
    # Not a Console of the whole width: its last column makes some terminals wrap.
    console = Console(width=max(20, width - 1), highlight=False, markup=False)
    console.print(table)
    if left_out:
        console.print(f"{', '.join(left_out)}: left out, use --json or a wider terminal")


def fitted(rows, width, drop=()):
    """Returns a table of rich, and the titles of the columns that it has no room for.

    Columns that have only a title are left out. Long cells are folded.
    """
    from rich.table import Table
    from rich.text import Text

    columns = [[*map(visible, column)] for column in zip(*rows)]
    kept = [i for i, column in enumerate(columns) if any(column[1:])]
    left_out = []

    def needed():
        widths = [max(map(len, columns[i])) for i in kept]
        return sum(min(_WIDE, each) + 2 for each in widths)

    for i in drop:
        if i in kept and needed() > width:
            kept.remove(i)
            left_out.append(columns[i][0])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i in kept:
        table.add_column(Text(columns[i][0]), overflow="fold")
    for cells in zip(*(columns[i][1:] for i in kept)):
        table.add_row(*map(Text, cells))
    return table, left_out


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
