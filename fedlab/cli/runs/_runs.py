"""Descriptions of runs that several of these subcommands print."""

import math
import os


def names(paths):
    """Returns a short name for each path: the path relative to their common folder."""
    paths = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def rounds(run):
    """Returns the number of rounds done, and of rounds requested."""
    asked = run.config.get("rounds")
    return f"{run.rounds_done}/{asked}" if asked else str(run.rounds_done)


def result(found):
    """Returns a metric's last value, and its best value and round if that differs."""
    from fedlab._wording import number

    if found is None:
        return ""
    last = number(found["last"])
    best = number(found["best"])
    return last if best == last else f"{last} ({best} @{found['best_round']})"


def by_interest(names):
    """Returns metrics by importance: scores of evaluations, their losses, training metrics."""
    from fedlab.evaluation.metric_names import lower_is_better

    return sorted(names, key=lambda name: (name.startswith("train_"), lower_is_better(name)))


def _first_results(found):
    from fedlab._wording import spoken

    return ", ".join(f"{spoken(name)} {result(found[name])}" for name in by_interest(found)[:2])


def summary(run):
    """Returns a run as a dict for JSON."""
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


def comparison(runs, labels, others=(), most_metrics=math.inf):
    """Returns a table with one row per run: rounds, time, and last and best metrics.

    Args:
      runs: the runs.
      labels: their names.
      others: further columns: (title, one cell per run).
      most_metrics: if there are more metrics, there is one column with the first two
        metrics of each run instead of one column per metric.
    """
    from fedlab._wording import duration, spoken

    results = [run.results() for run in runs]
    metrics = by_interest(dict.fromkeys(name for found in results for name in found))
    if len(metrics) > most_metrics:
        metrics = []
        others = [("results (best)", [_first_results(found) for found in results]), *others]
    rows = [["run", "rounds", "time", *map(spoken, metrics), *(title for title, _ in others)]]
    for i, (run, label, found) in enumerate(zip(runs, labels, results)):
        time = duration(run.total("seconds")) if run.total("seconds") else ""
        state = rounds(run) + ("" if run.finished else " not finished")
        rows.append(
            [
                label,
                state,
                time,
                *(result(found.get(name)) for name in metrics),
                *(cells[i] for _, cells in others),
            ]
        )
    return rows
