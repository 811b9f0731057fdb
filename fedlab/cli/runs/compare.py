"""Compares runs: results, the settings that differ, and a picture of their curves."""

import os
import pathlib

from fedlab._text import visible
from fedlab.cli.runs import _runs, _table


def add_arguments(parser):
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="two run folders or more")
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="write a picture with the runs' curves, one over the other",
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
        help="what it is drawn against (default: round)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args):
    from fedlab.runs.read import recorded, run_settings

    if len(args.run_dirs) < 2:
        raise ValueError(
            f"received one run, {args.run_dirs[0]}; allowed: two or more, or `fedlab runs show`."
        )
    if args.plot is None and args.metric is not None:
        raise ValueError(
            f"received --metric={args.metric} without --plot: give --plot=FILE.png too, or leave it out."
        )
    found = [recorded.read_run(path) for path in args.run_dirs]
    labels = _runs.names(args.run_dirs)
    settings = run_settings.differing(found)
    metric = choose_metric(found, labels, args.metric) if args.plot is not None else None
    if metric is not None:
        draw(found, labels, metric, args.x, args.plot)
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


def choose_metric(found, labels, name=None):
    """The column to draw: the one asked for, or the first accuracy or score of an evaluation, or else the first metric, that all have.

    Raises:
      ValueError: a run lacks it, or there is none that all have.
    """
    columns = [
        [column for column in {c: None for row in run.history for c in row} if run.curve(column)[1]]
        for run in found
    ]
    shared = [column for column in found[0].metrics if all(column in each for each in columns)]
    if name is None:
        if not shared:
            raise ValueError(
                "the runs have no metric in common: choose others, or simulate with the same evaluate_on."
            )
        return _runs.by_interest(shared)[0]
    for label, each in zip(labels, columns):
        if name not in each:
            raise ValueError(
                f"received --metric={name}, which {label} has no number of; allowed: {', '.join(shared) or 'none in common'}."
            )
    return name


def draw(found, labels, metric, x, file):
    """Writes the picture."""
    file = pathlib.Path(file)
    if file.suffix.lower() != ".png":
        raise ValueError(f"received --plot={file}; allowed: a name that ends in .png.")
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"--plot={file} would be in a folder that does not exist: make it, or give another file."
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
