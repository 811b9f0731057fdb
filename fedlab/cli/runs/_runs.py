"""What several of these subcommands say of a run."""

import math
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
    """A metric's last value, and its best, with its round, where that is another."""
    from fedlab._wording import number

    if found is None:
        return ""
    last = number(found["last"])
    best = number(found["best"])
    return last if best == last else f"{last} ({best} @{found['best_round']})"


def by_interest(names):
    """Metrics in the order in which a reader wants them: scores of evaluations, their losses, and those of training."""
    from fedlab.evaluation.metric_names import lower_is_better

    return sorted(names, key=lambda name: (name.startswith("train_"), lower_is_better(name)))


def _first_results(found):
    from fedlab._wording import spoken

    return ", ".join(f"{spoken(name)} {result(found[name])}" for name in by_interest(found)[:2])


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


def comparison(runs, labels, others=(), most_metrics=math.inf):
    """A table with a row a run: rounds, time, metrics, last and best; and `others`, (title, cell of each run).

    Every metric has a column; where these would be more than `most_metrics`, as of runs with little in common, each run says its first two.
    """
    from fedlab._wording import duration, spoken

    results = [run.results() for run in runs]
    metrics = dict.fromkeys(name for found in results for name in found)
    if len(metrics) > most_metrics:
        metrics = {}
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
