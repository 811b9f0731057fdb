"""Shows a run: its settings, results and totals."""

import argparse
import os
from typing import TYPE_CHECKING

from fedlab._text import visible
from fedlab.cli.runs import _runs, _table

if TYPE_CHECKING:
    from fedlab.runs.read.recorded import RecordedRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> None:
    """Prints the run."""
    from fedlab.runs.read import recorded

    found = recorded.read_run(args.run_dir)
    print(
        _table.dumps({**_runs.summary(found), "config": found.config}) if args.json else text(found)
    )


def text(found: "RecordedRun") -> str:
    """Returns the run as lines of text."""
    from fedlab._wording import duration, number, size, spoken
    from fedlab.runs.read import run_settings

    state = "finished" if found.finished else "not finished"
    if found.stopped is not None:
        state = f"stopped: {_table.one_line(found.stopped)}"
    lines = [
        ("run", os.fspath(found.path)),
        ("rounds", f"{_runs.rounds(found)}, {state}"),
        ("time", duration(found.total("seconds"))),
    ]
    lines.append(
        ("sent", f"{size(found.total('bytes_down'))} down, {size(found.total('bytes_up'))} up")
    )
    if epsilons := found.curve("epsilon")[1]:
        lines.append(("epsilon", number(epsilons[-1])))
    results = [["metric", "last", "best", "in round"]]
    for name, each in found.results().items():
        results.append(
            [spoken(name), number(each["last"]), number(each["best"]), str(each["best_round"])]
        )
    settings = [["setting", "value"]]
    settings += [
        [name, _table.one_line(run_settings.shown(name, value))]
        for name, value in run_settings.flat(found.config).items()
    ]
    head = "\n".join(f"{name:<9}{visible(value)}" for name, value in lines)
    return "\n\n".join(
        [head, *(_table.text(table) for table in (results, settings) if len(table) > 1)]
    )
