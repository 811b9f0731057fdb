"""Compares runs: results, settings that differ, a plot of their curves, and a page."""

import argparse
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedlab._text import visible
from fedlab.cli.runs import _runs, _table

if TYPE_CHECKING:
    from fedlab.runs.read.recorded import RecordedRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="two or more run folders")
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="write a plot of the runs' curves",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="the column to draw, such as test_accuracy (default: the first of an evaluation)",
    )
    parser.add_argument(
        "--x",
        choices=["round", "bytes", "seconds"],
        default="round",
        help="the horizontal axis (default: round)",
    )
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        help="write a page with settings, results, curves and clients of the runs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> None:
    """Prints the comparison."""
    from fedlab.runs.read import recorded, run_settings

    if len(args.run_dirs) < 2:
        raise ValueError(
            f"one run, {args.run_dirs[0]}: expected two or more; use `fedlab runs show` for one"
        )
    if args.plot is None and args.metric is not None:
        raise ValueError(
            f"--metric={args.metric} without --plot: expected --plot=FILE.png too; leave it out"
        )
    found = [recorded.read_run(path) for path in args.run_dirs]
    labels = _runs.names(args.run_dirs)
    settings = run_settings.differing(found)
    metric = choose_metric(found, labels, args.metric) if args.plot is not None else None
    if metric is not None:
        draw(found, labels, metric, args.x, args.plot)
    if args.report is not None:
        _write_page(found, labels, args.report)
    if args.json:
        print(
            _table.dumps(
                {"runs": [_runs.summary(each) for each in found], "differing_settings": settings}
            )
        )
        return
    print(_table.text(_runs.comparison(found, labels)))
    if settings:
        shown = [
            [
                name,
                *("" if v is None else _table.one_line(run_settings.shown(name, v)) for v in each),
            ]
            for name, each in settings.items()
        ]
        print("\n" + _table.text([["settings that differ", *labels], *shown]))
    else:
        print("\nNo setting differs.")
    if metric is not None:
        print("\n" + visible(f"{args.plot}: {metric} by {args.x}"))
    if args.report is not None:
        print("\n" + visible(args.report))


def _write_page(found: Sequence["RecordedRun"], labels: Sequence[str], file: str) -> None:
    from fedlab.runs.read.comparison import write_comparison_page

    if not file.lower().endswith((".html", ".htm")):
        raise ValueError(f"--report={file}: expected a name that ends in .html")
    write_comparison_page(found, labels, file)


def choose_metric(
    found: Sequence["RecordedRun"], labels: Sequence[str], name: str | None = None
) -> str:
    """Returns the metric to draw.

    This is the requested one. By default it is the first metric that all runs have, and
    scores of evaluations come first.

    Raises:
      ValueError: a run does not have the metric, or the runs have no metric in common.
    """
    columns = [
        [column for column in {c: None for row in run.history for c in row} if run.curve(column)[1]]
        for run in found
    ]
    shared = [column for column in found[0].metrics if all(column in each for each in columns)]
    if name is None:
        if not shared:
            raise ValueError(
                "the runs have no metric in common: expected runs with the same evaluate_on"
            )
        return _runs.by_interest(shared)[0]
    for label, each in zip(labels, columns):
        if name not in each:
            raise ValueError(
                f"--metric={name}, which {label} does not have: expected one of "
                f"{', '.join(shared) or 'none, as the runs have no metric in common'}"
            )
    return name


def draw(
    found: Sequence["RecordedRun"],
    labels: Sequence[str],
    metric: str,
    x: str,
    file: str | os.PathLike,
) -> None:
    """Writes the plot of a metric by round, bytes or seconds as a PNG file."""
    file = pathlib.Path(file)
    if file.suffix.lower() != ".png":
        raise ValueError(f"--plot={file}: expected a name that ends in .png")
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"--plot={file}: expected an existing folder; create it, or pass another file"
        )

    from fedlab._wording import spoken
    from fedlab.runs.read import plots as runs

    series = []
    for each, label in zip(found, labels):
        rounds, values = each.curve(metric)
        places = each.places(x)
        series.append(runs.Series(label.replace(os.sep, "/"), [places[r] for r in rounds], values))
    xlabel = {"round": "round", "bytes": "bytes, down and up", "seconds": "seconds of training"}[x]
    runs.save(runs.curves(series, xlabel, spoken(metric), size=(6.5, 4.2)), file)
