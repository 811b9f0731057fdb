"""The options for files of the user's own: --data, --client, --x, --label.

Imports nothing slow.
"""

import argparse
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlab import ClientData
    from fedlab.clients.partitioners import Partitioner

_TABLES = {
    ".csv": "from_csv",
    ".tsv": "from_csv",
    ".jsonl": "from_jsonl",
    ".ndjson": "from_jsonl",
    ".parquet": "from_parquet",
}
_TFF = {".h5", ".hdf5", ".sqlite"}


def add_file(parser: argparse.ArgumentParser) -> None:
    """Adds --data, --client, --x, --label and --skip_invalid."""
    group = parser.add_argument_group("options for data of your own")
    group.add_argument(
        "--data",
        metavar="FILE",
        help="a file .csv, .tsv, .jsonl or .parquet, or a folder of .parquet files; a folder that "
        "ClientData.save has written; a .json file of LEAF; or an .h5 or .sqlite file of TFF",
    )
    group.add_argument("--client", metavar="COLUMN", help="the column of the client ids")
    group.add_argument(
        "--x",
        metavar="COLUMNS",
        help="the inputs: a column, comma-separated columns of numbers, or INPUT=COLUMN,... "
        "(default: the columns that have no other role)",
    )
    group.add_argument("--label", metavar="COLUMN", help="the column of the labels, y")
    group.add_argument(
        "--skip_invalid",
        action="store_true",
        help="skip rows without a value, or with a value of another type",
    )


def check_options(args: argparse.Namespace, **others: object) -> None:
    """Raises ValueError for options that do not go together.

    Args:
      args: the arguments.
      others: options for data sets that are not allowed beside --data, as they were
        given.
    """
    if args.data is None:
        for name in ("client", "x", "label", "skip_invalid"):
            if getattr(args, name):
                raise ValueError(f"--{name}: expected only with --data=FILE; add the file")
        return
    for name, value in others.items():
        if value is not None:
            raise ValueError(
                f"--{name}={value}: expected only without --data={args.data}; leave one of them out"
            )


def read(
    args: argparse.Namespace,
    partitioner: "Partitioner | None" = None,
    input_names: Sequence[str] = (),
) -> "ClientData":
    """Returns the data that the options of `add_file` select.

    Args:
      args: the arguments, with `data`.
      partitioner: divides the rows of a table if there is no --client.
      input_names: the names of the model's inputs. If there are several, those are the
        columns that are read by default.
    """
    from fedlab import ClientData

    path = pathlib.Path(args.data).expanduser()
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix not in (".gz", ".bz2")]
    suffix = suffixes[-1] if suffixes else ""
    if (path / "clients.json").is_file():
        _no_columns(args, "a folder that ClientData.save has written")
        return ClientData.open(path)
    if suffix == ".json":
        _no_columns(args, "a file of LEAF")
        return ClientData.from_leaf(path, skip_invalid=args.skip_invalid)
    x: Any = None if args.x is None else _columns(args.x)
    if suffix in _TFF:
        if args.client is not None:
            raise ValueError(
                f"--client={args.client}: expected only with a table, since {path.name} has clients"
            )
        split = args.split if suffix == ".sqlite" else None
        return ClientData.from_tff_file(
            path, split=split, x=x, y=args.label, skip_invalid=args.skip_invalid
        )
    if suffix not in _TABLES and not path.is_dir():
        known = ", ".join([*_TABLES, ".json", *sorted(_TFF)])
        raise ValueError(
            f"--data={os.fspath(args.data)!r:.200}: expected a file whose name ends with one of "
            f"{known}, or a folder of .parquet files; rename it"
        )
    if args.client is not None:
        partitioner = None
    elif partitioner is None:
        raise ValueError(
            f"--data={os.fspath(args.data)!r:.200}: expected --client=COLUMN as well, the column "
            "of the client ids; add it"
        )
    if x is None and len(input_names) > 1:
        x = {name: name for name in input_names}
    options = {"delimiter": "\t"} if suffix == ".tsv" else {}
    reader = getattr(ClientData, _TABLES.get(suffix, "from_parquet"))
    return reader(
        path,
        args.client,
        x,
        args.label,
        partitioner=partitioner,
        skip_invalid=args.skip_invalid,
        **options,
    )


def skipped(clients: "ClientData") -> str:
    """Returns what was left out of the data, in words; "" for nothing.

    Example:
      >>> from fedlab import ClientData
      >>> skipped(ClientData.from_dict({"ann": {"x": [1]}}))
      ''
    """
    source = clients.source
    counts = {} if source is None else source.skipped
    return ", ".join(f"{number:,} {reason}" for reason, number in counts.items())


def _columns(text: str) -> Any:
    """A column, a list of columns, or a mapping, of the text of --x."""
    names = [name.strip() for name in text.split(",")]
    if any("=" in name for name in names):
        pairs = [name.partition("=") for name in names]
        if not all(name and column for name, _, column in pairs):
            raise ValueError(
                f"--x={text:.200}: expected INPUT=COLUMN for each input, or only names"
            )
        return {name: column for name, _, column in pairs}
    return names if len(names) > 1 else names[0]


def _no_columns(args: argparse.Namespace, what: str) -> None:
    for name in ("client", "x", "label"):
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name}={getattr(args, name)}: expected only with a table, but --data is "
                f"{what}; leave it out"
            )
