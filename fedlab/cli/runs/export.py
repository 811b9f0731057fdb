"""Exports the tables of runs as CSV or JSON."""

import argparse
import csv
import io
import pathlib
import sys

from fedlab._text import visible
from fedlab.cli.runs import _runs, _table

_TABLES = ("rounds", "clients", "evaluations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="one run folder or more")
    parser.add_argument(
        "--table",
        choices=_TABLES,
        default="rounds",
        help="one row per round (default), per client and round, or per client's metric",
    )
    parser.add_argument(
        "--format", choices=["csv", "json"], help="default: the suffix of --output, or csv"
    )
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: print)")


def run(args: argparse.Namespace) -> None:
    """Writes or prints the table."""
    from fedlab._files import write
    from fedlab.runs.read import recorded

    form = args.format or (
        "json" if args.output and args.output.lower().endswith(".json") else "csv"
    )
    if args.output and not pathlib.Path(args.output).absolute().parent.is_dir():
        raise FileNotFoundError(
            f"--output={args.output}: expected an existing folder; create it, or pass another file"
        )
    found = [recorded.read_run(path) for path in args.run_dirs]
    rows = [
        {"run": label, **_flat(row)}
        for each, label in zip(found, _runs.names(args.run_dirs))
        for row in (each.history if args.table == "rounds" else each.rows(args.table))
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["run", "round"]
    text = _table.dumps(rows) + "\n" if form == "json" else _csv(columns, rows)
    if args.output:
        write(args.output, text.encode())
        print(f"{visible(args.output)}: {len(rows):,} rows")
    elif sys.stdout.isatty():
        print("\n".join(map(visible, text.splitlines())))
    else:
        sys.stdout.write(text)


def _flat(row):
    """Returns a row with the client's training metrics as columns, named as for rounds."""
    metrics = row.get("metrics", {})
    return {name: value for name, value in row.items() if name != "metrics"} | {
        f"train_{name}": metrics[name] for name in metrics
    }


def _csv(columns, rows):
    out = io.StringIO()
    table = csv.DictWriter(out, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()
