"""What several of these subcommands say of a run."""

import os


def names(paths):
    """A short name for each path: what is left without the folder that all are in."""
    paths = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def rounds(run):
    """Rounds done, of those asked for."""
    asked = run.config.get("rounds")
    return f"{run.rounds_done}/{asked}" if asked else str(run.rounds_done)


def result(found):
    """A metric's last value, and its best where that is another."""
    from fedlab.simulation.wording import number

    if found is None:
        return ""
    last = number(found["last"])
    return last if found["best_round"] == found["last_round"] else f"{last} ({number(found['best'])} @{found['best_round']})"


def summary(run):
    """A run for JSON."""
    return {
        "path": str(run.path),
        "finished": run.finished,
        "rounds_done": run.rounds_done,
        "rounds_asked": run.config.get("rounds"),
        "seconds": run.total("seconds"),
        "bytes_down": run.total("bytes_down"),
        "bytes_up": run.total("bytes_up"),
        "results": run.results(),
    }


def comparison(runs, labels, others=()):
    """A table with a row a run: rounds, time, the metrics that there are, last and best; and `others`, (title, cell of each run)."""
    from fedlab.simulation.wording import duration, spoken

    results = [run.results() for run in runs]
    metrics = dict.fromkeys(name for found in results for name in found)
    rows = [["run", "rounds", "time", *map(spoken, metrics), *(title for title, _ in others)]]
    for i, (run, label, found) in enumerate(zip(runs, labels, results)):
        time = duration(run.total("seconds")) if run.total("seconds") else ""
        state = rounds(run) + ("" if run.finished else " not finished")
        rows.append([label, state, time, *(result(found.get(name)) for name in metrics), *(cells[i] for _, cells in others)])
    return rows
