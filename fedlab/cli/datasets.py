"""Lists the data sets, or describes one: its clients, their sizes, labels, and a sample.

fedlab datasets                 lists them
fedlab datasets NAME            the sizes of the clients, and the first example
fedlab datasets show NAME       what each client has; see `fedlab.data.describe`
fedlab datasets show FILE --client COLUMN --label COLUMN        the same for a table of your own
"""

import argparse
import ast
import os
import pathlib
from typing import TYPE_CHECKING

from fedlab._text import visible
from fedlab.cli import _arguments, _data_files, _listing

if TYPE_CHECKING:
    import numpy as np

    from fedlab import ClientData
    from fedlab.clients.partitioners import Partitioner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="[show] NAME_OR_FILE",
        help="the data set to describe, or a file as in --data (default: list all data sets); with "
        "show, also the labels of the clients and their distances to all labels",
    )
    _arguments.add_data(parser)
    _data_files.add_file(parser)
    group = parser.add_argument_group("options of show")
    group.add_argument(
        "--partitioner",
        metavar="TEXT",
        help="divides all examples among new clients, such as "
        "'dirichlet(num_clients=10, alpha=0.5)'; the column \"client\" has the former clients",
    )
    group.add_argument(
        "--seed",
        type=_arguments.non_negative_int,
        help="the seed of --partitioner (default: 0)",
    )
    group.add_argument("--column", help='the column of the labels (default: "y")')
    group.add_argument(
        "--max_clients",
        type=_arguments.positive_int,
        metavar="N",
        help="describe a sample of that many clients (default: all)",
    )
    group.add_argument("--output", metavar="FILE", help="a PNG to draw: sizes, labels by client")


def run(args: argparse.Namespace) -> None:
    """Prints the list, or the description of one data set."""
    shown = args.names[:1] == ["show"]
    names = args.names[shown:]
    if len(names) == 1 and args.data is None and _is_file(names[0]):
        args.data = names.pop()
    if args.data is not None:
        given = args.dataset = " ".join(names) or None
        _data_files.check_options(args, dataset=given, source=args.source, path=args.path)
        names = [args.data]
    _data_files.check_options(args)
    if len(names) > 1 or (shown and not names):
        what = "show and the name of a data set" if shown else "the name of one data set, or none"
        raise ValueError(f"arguments {' '.join(args.names)!r}: expected {what}")
    options = ("partitioner", "seed", "column", "max_clients", "output")
    given = next((name for name in options if getattr(args, name) is not None), None)
    if given and not shown:
        raise ValueError(f"--{given}: expected only with `fedlab datasets show NAME`")
    if not names:
        _listing.show(listing())
    elif shown:
        print(description(names[0], args))
    else:
        print(summary(names[0], _load(names[0], args), args))


def _is_file(name: str) -> bool:
    from fedlab import datasets

    # A misspelt path is one as well.
    return name not in datasets.names() and (os.sep in name or "." in name or os.path.exists(name))


def _load(
    name: str, args: argparse.Namespace, partitioner: "Partitioner | None" = None
) -> "ClientData":
    if args.data is None:
        return _arguments.load_data(name, args)
    return _data_files.read(args, partitioner)


def _characters(name: str, args: argparse.Namespace) -> str | None:
    """Returns the characters whose numbers are the labels, if the data set is of characters."""
    from fedlab import datasets

    return None if args.data is not None else getattr(datasets.get(name), "CHARACTERS", None)


def _title(name: str, data: "ClientData", args: argparse.Namespace) -> str:
    if args.data is None:
        return f"{name}, {args.split}, source {args.source}"
    skipped = _data_files.skipped(data)
    return visible(name) + (f", skipped: {skipped}" if skipped else "")


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
    if _characters(name, args) is not None:
        sizes["characters"] = [num_characters(data[client_id]) for client_id in data]
    client_id = data.client_ids[0]
    columns = data[client_id]
    lines = [_title(name, data, args), f"{'clients':<12}{len(data):>12,}"]
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


def description(name: str, args: argparse.Namespace) -> str:
    """Describes what each client of a data set has, and draws it if there is --output."""
    from fedlab import data as data_lib
    from fedlab.clients import partitioners

    partitioner = None
    if args.partitioner is not None:
        partitioner = partitioners.parse(args.partitioner, args.seed or 0)
    elif args.seed is not None:
        raise ValueError(f"--seed={args.seed}: expected only with --partitioner")
    clients = _load(name, args, partitioner)
    lines = [_title(name, clients, args)]
    if partitioner is not None:
        if args.data is None or args.client is not None:
            clients = divided(clients, partitioner)
        lines.append(f"divided by {partitioner!r}")
    characters = _characters(name, args) if args.column in (None, "y") else None
    names = None if characters is None else [*map(repr, characters)]
    found = data_lib.describe(clients, args.column, max_clients=args.max_clients, names=names)
    lines += ["", str(found)]
    if args.output is not None:
        found.save(args.output)
        lines += ["", visible(str(args.output))]
    return "\n".join(lines)


def divided(clients: "ClientData", partitioner: "Partitioner") -> "ClientData":
    """Divides the examples of clients among new clients.

    The partitioner can read a column "client", the former client of each example.
    """
    import numpy as np

    from fedlab.clients import partitioners

    columns = clients.to_arrays()
    sizes = [clients.num_examples(client_id) for client_id in clients]
    former = np.repeat(np.array([*clients], object), sizes)
    rows = partitioners.partition({"client": former, **columns}, partitioner)
    return partitioners.clients(columns, rows)


def num_characters(columns: "dict[str, np.ndarray]") -> int:
    """Returns the number of characters of next-character examples.

    These are the targets, and the first character of each row.

    Example:
      >>> from fedlab.tasks.generation.text import encode, sequences
      >>> num_characters(sequences(encode("to be, or not"), length=6))
      13
    """
    from fedlab.tasks.generation.text import PADDING_Y

    return int((columns["y"] != PADDING_Y).sum()) + len(columns["x"])
