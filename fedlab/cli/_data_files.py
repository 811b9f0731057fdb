"""The options for files of the user's own: --data, --client, --x, --label, --text.

Imports nothing slow.
"""

import argparse
import json
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
    """Adds --data, --client, --x, --label, --text and those for labels and images."""
    group = parser.add_argument_group("options for data of your own")
    group.add_argument(
        "--data",
        metavar="FILE",
        help="a file .csv, .tsv, .jsonl or .parquet, or a folder of .parquet files; a folder that "
        "ClientData.save has written; a folder of folders of images or texts, CLIENT/FILE or "
        "CLIENT/CLASS/FILE, or CLASS/FILE with --partitioner; a .json file of LEAF; or an .h5 or "
        ".sqlite file of TFF",
    )
    group.add_argument("--client", metavar="COLUMN", help="the column of the client ids")
    group.add_argument(
        "--x",
        "--features",
        metavar="COLUMNS",
        help="the inputs: a column, comma-separated columns of numbers, or INPUT=COLUMN,... "
        "(default: the columns that have no other role)",
    )
    group.add_argument("--label", metavar="COLUMN", help="the column of the labels, y")
    group.add_argument(
        "--class_names",
        metavar="A,B,...",
        help="the texts in --label, or the folders of classes, in the order of the numbers of "
        "the classes (default: those that the model was trained with, or alphabetical)",
    )
    group.add_argument(
        "--text",
        metavar="COLUMN",
        help="a column of texts for a next-character model, instead of --x and --label; x for a "
        "folder of texts",
    )
    group.add_argument(
        "--image_size",
        metavar="HEIGHT,WIDTH",
        help="the size that images in a folder are resized to (default: all have one size)",
    )
    group.add_argument(
        "--skip_invalid",
        action="store_true",
        help="skip rows without a value, or with a value of another type",
    )


_OF_FILES = ("client", "x", "label", "class_names", "text", "image_size", "skip_invalid")


def check_options(args: argparse.Namespace, **others: object) -> None:
    """Raises ValueError for options that do not go together.

    Args:
      args: the arguments.
      others: options for data sets that are not allowed beside --data, as they were
        given.
    """
    if args.data is None:
        for name in _OF_FILES:
            if getattr(args, name):
                raise ValueError(f"--{name}: expected only with --data=FILE; add the file")
        return
    for name, value in others.items():
        if value is not None:
            raise ValueError(
                f"--{name}={value}: expected only without --data={args.data}; leave one of them out"
            )
    if args.text is not None:
        for name in ("x", "label", "class_names"):
            if getattr(args, name) is not None:
                raise ValueError(
                    f"--{name}={getattr(args, name)}: expected only without --text={args.text}; "
                    "leave one of them out"
                )


def read(
    args: argparse.Namespace,
    partitioner: "Partitioner | None" = None,
    input_names: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    by_name: bool = False,
) -> "ClientData":
    """Returns the data that the options of `add_file` select.

    Args:
      args: the arguments, with `data`.
      partitioner: divides the rows of a table if there is no --client.
      input_names: the names of the model's inputs. If they are columns of a table, those
        are read by default.
      class_names: the classes, unless there is --class_names.
      by_name: whether every column of a table becomes an input of its own by default.

    Returns:
      The data. With --text, its column `x` has the texts.
    """
    from fedlab import ClientData

    path = pathlib.Path(args.data).expanduser()
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix not in (".gz", ".bz2")]
    suffix = suffixes[-1] if suffixes else ""
    if args.class_names is not None:
        class_names = [name.strip() for name in args.class_names.split(",")]
    if (path / "clients.json").is_file():
        _no_columns(args, "a folder that ClientData.save has written")
        return ClientData.open(path)
    if suffix == ".json":
        _no_columns(args, "a file of LEAF")
        return ClientData.from_leaf(path, skip_invalid=args.skip_invalid)
    if path.is_dir() and next(path.rglob("*.parquet"), None) is None:
        return _of_folder(path, args, partitioner, class_names)
    if args.image_size is not None and suffix != ".parquet" and not path.is_dir():
        raise ValueError(
            f"--image_size={args.image_size}: expected only with a folder of images or Parquet "
            "files; leave it out"
        )
    x: Any = args.text
    if args.x is not None:
        x = _columns(args.x)
        names = [x] if isinstance(x, str) else [*x]
        # The inputs of a model that was trained on columns have their names.
        if not isinstance(x, dict) and (by_name or set(names) <= set(input_names)):
            x = {name: name for name in names}
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
            f"{known}, or a folder of .parquet files, images or texts; rename it"
        )
    if args.client is not None:
        partitioner = None
    elif partitioner is None:
        raise ValueError(
            f"--data={os.fspath(args.data)!r:.200}: expected --client=COLUMN as well, the column "
            "of the client ids; add it"
        )
    if x is None and (by_name or input_names):
        names = column_names(path, suffix)
        rest = [name for name in names if name not in (args.client, args.label)]
        wanted = rest if by_name else input_names
        # A single input may have any name, such as "input_1", and then gets all columns.
        if len(wanted) > 1 or set(wanted) <= set(names):
            x = {name: name for name in wanted}
    options: dict[str, Any] = {"delimiter": "\t"} if suffix == ".tsv" else {}
    if suffix not in _TABLES or suffix == ".parquet":
        options["image_size"] = image_size(args)
        if class_names is not None:
            options["class_names"] = class_names
    else:
        options["class_names"] = class_names
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


def column_names(path: pathlib.Path, suffix: str) -> list[str]:
    """Returns the names of the columns of a table; an empty list if it cannot be read."""
    from fedlab.clients.sources import csv_files, files, values

    if suffix in (".csv", ".tsv"):
        file = csv_files._File(
            files.existing(path, "a CSV file"), "\t" if suffix == ".tsv" else ",", "utf-8"
        )
        return file.header()
    pa = values.arrow()
    if suffix in (".jsonl", ".ndjson"):
        try:
            with pa.input_stream(str(path), compression="detect") as stream:
                return list(json.loads(stream.read(2**20).split(b"\n")[0]))
        except (OSError, ValueError, TypeError):
            return []
    import pyarrow.dataset as pads

    try:
        return list(pads.dataset(str(path), format="parquet", partitioning="hive").schema.names)
    except (OSError, ValueError):
        return []


def image_size(args: argparse.Namespace) -> tuple[int, int] | None:
    """Returns (height, width) of --image_size, or None."""
    if args.image_size is None:
        return None
    try:
        height, width = map(int, args.image_size.replace("x", ",").split(","))
    except ValueError:
        raise ValueError(
            f"--image_size={args.image_size!r:.60}: expected two integers, such as 32,32"
        ) from None
    return height, width


def _of_folder(
    path: pathlib.Path,
    args: argparse.Namespace,
    partitioner: "Partitioner | None",
    class_names: Sequence[str] | None,
) -> "ClientData":
    from fedlab import ClientData

    _no_columns(args, "a folder of images or texts")
    if args.text not in (None, "x"):
        raise ValueError(f"--text={args.text}: expected --text=x with a folder of texts")
    data = ClientData.from_folder(
        path,
        partitioner=partitioner,
        class_names=class_names,
        image_size=image_size(args),
        skip_invalid=args.skip_invalid,
    )
    if args.text is not None and data.schema["x"].dtype != object:
        raise ValueError(f"--text=x: expected texts in {path.name}, got images; leave it out")
    return data


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
