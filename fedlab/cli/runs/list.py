"""Lists the runs in a folder: rounds, results, time, and the settings that differ."""

import argparse

from fedlab._text import visible
from fedlab.cli.runs import _runs, _table

_MOST_METRICS, _MOST_SETTINGS = 8, 6  # per line; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "folder",
        nargs="?",
        default="runs",
        metavar="FOLDER",
        help="the folder that contains the run folders (default: runs)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Prints the list."""
    from fedlab.runs.read import recorded, run_settings

    paths = [path for path in recorded.find_runs(args.folder) if not _is_foreign(path)]
    if not paths:
        raise FileNotFoundError(
            f"there is no run in {args.folder!r}: expected a folder that contains run folders"
        )
    found, problems = [], {}
    for path in paths:
        try:
            found.append(_readable(path))
        except Exception as error:  # the other folders are listed
            known = isinstance(error, (ValueError, OSError))
            problems[path] = " ".join(
                (
                    str(error) if known else f"it cannot be read ({type(error).__name__}: {error})"
                ).split()
            )
    labels = dict(zip(paths, _runs.names(paths)))
    settings = run_settings.differing(found) if found else {}
    if args.json:
        runs = [
            {
                **_runs.summary(each),
                "differing_settings": {name: values[i] for name, values in settings.items()},
            }
            for i, each in enumerate(found)
        ]
        print(
            _table.dumps(
                [
                    *runs,
                    *(
                        {"path": str(path), "problem": problem}
                        for path, problem in problems.items()
                    ),
                ]
            )
        )
        return
    if found:
        cells = [
            _settings({name: values[i] for name, values in settings.items()})
            for i in range(len(found))
        ]
        shown = [labels[each.path] for each in found]
        rows = _runs.comparison(found, shown, [("settings that differ", cells)], _MOST_METRICS)
        # Of the metrics, which begin in column 3, the first one is the most important.
        _table.show(rows, drop=[*range(len(rows[0]) - 2, 3, -1), 2])
    for path, problem in problems.items():
        print(visible(f"{labels[path]}  ! {problem}"))


def _is_foreign(path):
    """Whether the config.json in a folder is not that of a run, but of another program."""
    from fedlab import _json

    try:
        config = _json.read(path / "config.json", _json.MOST_LEVELS)
    except (ValueError, OSError):
        return False  # it may be a damaged run
    return not (isinstance(config, dict) and "format_version" in config)


def _readable(path):
    """Returns the run in a folder, after reading everything that the list shows."""
    from fedlab.runs.read import recorded, run_settings

    run = recorded.read_run(path)
    _table.dumps(_runs.summary(run))
    _runs.comparison([run], [str(path)])
    _settings(run_settings.flat(run.config, layers=True))
    return run


def _settings(values):
    from fedlab.runs.read import run_settings

    texts = [
        f"{name}={_table.one_line(run_settings.shown(name, value))}"
        for name, value in values.items()
        if value is not None
    ]
    more = f" and {len(texts) - _MOST_SETTINGS} more" if len(texts) > _MOST_SETTINGS else ""
    return " ".join(texts[:_MOST_SETTINGS]) + more
