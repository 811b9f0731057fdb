"""Lists the data sets, or describes one: its clients, their sizes, and a sample."""

import argparse
import ast
import pathlib
from typing import TYPE_CHECKING

from fedlab._text import visible
from fedlab.cli import _arguments

if TYPE_CHECKING:
    import numpy as np

    from fedlab import ClientData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "name", nargs="?", help="the data set to describe (default: list all data sets)"
    )
    _arguments.add_data(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the list, or the description of one data set."""
    if args.name is None:
        print(listing())
    else:
        print(summary(args.name, _arguments.load_data(args.name, args), args))


def listing() -> str:
    """Returns one line per data set: its name and the first line of its docstring."""
    from fedlab import datasets

    lines = {}
    for name in datasets.names():
        # Read but not imported, since data sets may need libraries that are slow to
        # import.
        source = (pathlib.Path(datasets.__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
        lines[name] = (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]
        title, _, rest = lines[name].partition(": ")
        lines[name] = rest if title.lower() == name else lines[name]
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in lines.items())


def summary(name: str, data: "ClientData", args: argparse.Namespace) -> str:
    """Describes the sizes of a data set's clients, and the columns of one client."""
    sizes = {"examples": [data.num_examples(client_id) for client_id in data]}
    characters = [num_characters(data[client_id]) for client_id in data]
    if None not in characters:
        sizes["characters"] = characters
    client_id = data.client_ids[0]
    columns = data[client_id]
    lines = [f"{name}, {args.split}, source {args.source}", f"{'clients':<12}{len(data):>12,}"]
    lines += ["", f"{'':<12}{'total':>12}{'min':>10}{'median':>10}{'max':>10}   per client"]
    for label, values in sizes.items():
        low, middle, high = min(values), sorted(values)[len(values) // 2], max(values)
        lines.append(f"{label:<12}{sum(values):>12,}{low:>10,}{middle:>10,}{high:>10,}")
    lines += ["", f"sample: the first example of {visible(client_id)}"]
    lines += [
        f"  {column}: {list(values.shape)} {values.dtype}" for column, values in columns.items()
    ]
    if "characters" in sizes:
        from fedlab.tasks.generation import text

        lines.append(f"  {text.decode(columns['x'][0][:1])}{text.decode(columns['y'][0])!r}"[:2000])
    return "\n".join(lines)


def num_characters(columns: "dict[str, np.ndarray]") -> int | None:
    """Returns the number of characters of next-character examples; None for other data.

    These are the targets, and the first character of each row.

    Example:
      >>> from fedlab.tasks.generation.text import encode, sequences
      >>> num_characters(sequences(encode("to be, or not"), length=6))
      13
    """
    from fedlab.tasks.generation.text import CHAR_VOCABULARY, PADDING_Y

    x, y = columns.get("x"), columns.get("y")
    if (
        x is None
        or y is None
        or x.ndim != 2
        or x.shape != y.shape
        or x.dtype.kind != "i"
        or y.dtype.kind != "i"
    ):
        return None
    if x.size and not (0 <= x.min() and max(x.max(), y.max()) < len(CHAR_VOCABULARY)):
        return None
    return int((y != PADDING_Y).sum()) + len(x)
