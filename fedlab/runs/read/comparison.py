"""Writes a page that compares several runs: settings, results, curves and clients."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlab._wording import duration, number, size, spoken
from fedlab.evaluation.metric_names import STATISTICS, best, lower_is_better
from fedlab.runs.read import chosen, plots, report, report_clients, report_curves, run_settings
from fedlab.runs.read.recorded import RecordedRun
from fedlab.runs.read.report_parts import Section, picture, section, table

_TEMPLATE = "comparison.html.jinja"
_MOST_METRICS = 8
_MOST_CLIENTS = 10  # whose results differ most
_BEST = "★"
_NOTHING = "–"


def write_comparison_page(
    runs: Sequence[RecordedRun], labels: Sequence[str], output: str | os.PathLike
) -> pathlib.Path:
    """Writes one page for several runs.

    Args:
      runs: the runs, two or more.
      labels: their names on the page.
      output: the file.

    Returns:
      The path of the file.

    Raises:
      ModuleNotFoundError: jinja2 or matplotlib is not installed.
      FileNotFoundError: the folder of `output` does not exist.

    Example:
      >>> runs = [read_run("runs/a"), read_run("runs/b")]  # doctest: +SKIP
      >>> write_comparison_page(runs, ["a", "b"], "comparison.html")  # doctest: +SKIP
      PosixPath('comparison.html')
    """
    report.check_libraries()
    output = pathlib.Path(output)
    metrics = _metrics(runs)
    found = [
        _settings(runs, labels),
        _results(runs, labels, metrics),
        _curves(runs, labels, metrics),
        *_clients(runs, labels),
        _costs(runs, labels),
    ]
    page = {
        "title": f"{len(runs)} runs compared",
        "sentences": _sentences(runs, labels, metrics),
        "sections": [each for each in found if each],
    }
    report.write_page(output, report.render(_TEMPLATE, page))
    return output


def _metrics(runs: Sequence[RecordedRun]) -> list[str]:
    """Returns the metrics that two runs or more have: scores, losses, then training metrics."""
    counts: dict[str, int] = {}
    for run in runs:
        for name in run.results():
            counts[name] = counts.get(name, 0) + 1
    shared = [name for name, count in counts.items() if count > 1]
    return sorted(shared, key=lambda name: (name.startswith("train_"), lower_is_better(name)))


def _title(runs: Sequence[RecordedRun], column: str) -> str:
    run = next(run for run in runs if column in run.metrics)
    part, metric = run.split(column)
    return f"{spoken(metric)} on {'training clients' if part == 'train' else spoken(part)}"


def _sentences(
    runs: Sequence[RecordedRun], labels: Sequence[str], metrics: Sequence[str]
) -> list[str]:
    names = [chosen.method(run.config)[0] for run in runs]
    methods = ", ".join(dict.fromkeys(names))
    found = [f"{len(runs)} runs with {methods}."]
    if not metrics:
        return [*found, "The runs have no metric in common."]
    # Rather a metric that all runs have.
    column = max(metrics, key=lambda name: sum(name in run.results() for run in runs))
    last = {
        label: run.results()[column]["last"]
        for run, label in zip(runs, labels)
        if column in run.results()
    }
    order = sorted(last, key=last.__getitem__, reverse=not lower_is_better(column))
    top, *others = order
    ties = [name for name in order if last[name] == last[top]]
    others = [name for name in others if name not in ties]
    title = _title(runs, column)
    if len(last) > 1 and not others:
        found.append(f"{' and '.join(ties)} end with the same {title}: {number(last[top])}.")
    else:
        listed = ", ".join(f"{name} {number(last[name])}" for name in others[:5])
        kind = "lowest" if lower_is_better(column) else "highest"
        what = f"with the {kind} {title}, {number(last[top])}"
        rest = f"; the other{'s' if len(others) > 1 else ''}: {listed}" if others else ""
        more = " …" if len(others) > 5 else ""
        verb = "ends" if len(ties) == 1 else "end"
        found.append(f"{' and '.join(ties)} {verb} {what}{rest}{more}.")
    return found


def _settings(runs: Sequence[RecordedRun], labels: Sequence[str]) -> Section:
    differing = run_settings.differing(runs)
    if not differing:
        return section("Settings that differ", "No setting differs.")
    head = ["setting", *labels]
    main, details = [], []
    for name, values in differing.items():
        cells = [_NOTHING if v is None else run_settings.shown(name, v) for v in values]
        is_detail = all(v is None or chosen.is_detail(name, v) for v in values)
        (details if is_detail else main).append([name, *cells])
    more = [section("Data and layers that differ", tables=[table(head, details)])]
    return section(
        "Settings that differ",
        "" if main else "Only data or layers differ.",
        tables=[table(head, main)] if main else [],
        more=more if details else [],
    )


def _results(
    runs: Sequence[RecordedRun], labels: Sequence[str], metrics: Sequence[str]
) -> Section | None:
    if not metrics:
        return None
    shown = metrics[:_MOST_METRICS]
    results = [run.results() for run in runs]
    tops = {
        name: best((found[name]["last"] for found in results if name in found), name)
        for name in shown
    }
    rows = []
    for run, label, found in zip(runs, labels, results):
        asked = run.config.get("rounds")
        state = f"{run.rounds_done}{f' of {asked}' if asked and asked != run.rounds_done else ''}"
        cells = []
        for name in shown:
            if name not in found:
                cells.append("")
                continue
            last = found[name]["last"]
            mark = f"{_BEST} " if last == tops[name] else ""
            cells.append(f"{mark}{number(last)}")
        rows.append([label, state, *cells])
    head = ["run", "rounds", *(_title(runs, name) for name in shown)]
    lead = f"The last value of each metric. {_BEST} marks the best run."
    others = []
    if any(_best_row(run, shown) for run in runs):
        best_rows = [[label, *_best_row(run, shown)] for run, label in zip(runs, labels)]
        titles = [_title(runs, name) for name in shown]
        others = [
            section("Best value of each metric", tables=[table(["run", *titles], best_rows, True)])
        ]
    return section("Results", lead, tables=[table(head, rows, numbers=True)], more=others)


def _best_row(run: RecordedRun, names: Sequence[str]) -> list[str]:
    found = run.results()
    return [
        f"{number(found[name]['best'])} in round {found[name]['best_round']}"
        if name in found
        else ""
        for name in names
    ]


def _curves(
    runs: Sequence[RecordedRun], labels: Sequence[str], metrics: Sequence[str]
) -> Section | None:
    axes = {"round": [run.places("round") for run in runs]}
    if all(run.total("bytes_down") + run.total("bytes_up") for run in runs):
        axes["MB sent"] = [
            {r: place / 1e6 for r, place in run.places("bytes").items()} for run in runs
        ]
    if all(run.total("seconds") for run in runs):
        axes["seconds"] = [report_curves.seconds(run) for run in runs]
    drawn: dict[str, list[dict[str, Any]]] = {}
    for column in metrics[:_MOST_METRICS]:
        curves = [(run.curve(column), label) for run, label in zip(runs, labels)]
        if all(len(values) < 2 or len({*values}) == 1 for (_, values), _ in curves):
            continue
        for axis, places in axes.items():
            series = [
                plots.Series(_label(label), [where[r] for r in rounds], values, colour=i)
                for i, (((rounds, values), label), where) in enumerate(zip(curves, places))
                if rounds
            ]
            figure = plots.curves(_merged(series), axis, spoken(_metric(runs, column)), (4.4, 2.9))
            title = f"{_title(runs, column)} by {axis}"
            ends = "; ".join(
                f"{label}: {number(values[-1])}" for (_, values), label in curves if values
            )
            each = picture(figure, f"compare {column} {axis}", title, f"{title}. At last: {ends}")
            drawn.setdefault(axis, []).append(each)
    if not drawn:
        return None
    more = [
        section(f"Learning curves by {what}", lead, drawn[axis])
        for axis, what, lead in (
            ("MB sent", "bytes", "What would be sent in a real deployment, in both directions."),
            (
                "seconds",
                "training time",
                "Seconds are training time, without evaluation and without the compilation of the "
                "graph in the first round. Compare them only if the runs had the same machine.",
            ),
        )
        if axis in drawn
    ]
    lead = "Round 0 is before training."
    return section("Learning curves", lead, drawn["round"], more=more, wide=True)


def _metric(runs: Sequence[RecordedRun], column: str) -> str:
    return next(run for run in runs if column in run.metrics).split(column)[1]


def _label(label: str) -> str:
    return label.replace(os.sep, "/")


def _merged(series: Sequence[plots.Series]) -> list[plots.Series]:
    """Returns the curves, with one curve for those that are the same."""
    found: dict[tuple, plots.Series] = {}
    for each in series:
        key = tuple(each.x), tuple(each.y)
        before = found.get(key)
        found[key] = (
            each if before is None else before._replace(label=f"{before.label} and {each.label}")
        )
    return list(found.values())


def _clients(runs: Sequence[RecordedRun], labels: Sequence[str]) -> list[Section]:
    """One section for each set that two runs or more evaluate per client."""
    parts = dict.fromkeys(part for run in runs for part in run.per_client_parts)
    return [each for part in parts if (each := _clients_of(runs, labels, part))]


def _clients_of(runs: Sequence[RecordedRun], labels: Sequence[str], part: str) -> Section | None:
    found = []
    for i, (run, label) in enumerate(zip(runs, labels)):
        if part in run.per_client_parts:
            query = "SELECT MAX(round) FROM evaluations WHERE part = ?"
            ((last,),) = run.query(query, part)
            values = report_clients.values(run, part, last) if last is not None else {}
            found.append((i, run, label, last, values))
    shared = [name for name in found[0][4] if all(name in values for *_, values in found)]
    if len(found) < 2 or not shared:
        return None
    metric = next((name for name in shared if not lower_is_better(name)), shared[0])
    series = []
    for i, _, label, _, values in found:
        ordered = sorted(values[metric].values(), reverse=lower_is_better(metric))
        places = 100 * (np.arange(len(ordered)) + 0.5) / len(ordered)
        series.append(plots.Series(_label(label), places.tolist(), ordered, colour=i))
    figure = plots.curves(
        _merged(series), "% of clients, the worst first", spoken(metric), (4.4, 2.9)
    )
    title = f"{spoken(part)}: {spoken(metric)} over clients"
    ends = "; ".join(f"{line.label}: median {number(float(np.median(line.y)))}" for line in series)
    pictures = [picture(figure, f"clients {part}", title, f"{title}. {ends}")]
    columns = [f"{part}_{metric}", *(f"{part}_{metric}_{s}" for s in STATISTICS)]
    head = ["run", "weighted mean", "unweighted mean", "10th percentile", "median"]
    head += ["90th percentile", "worst tenth"]
    rows = []
    for _, run, label, last, _ in found:
        row = next(row for row in run.history if row["round"] == last)
        rows.append([label, *(number(row.get(column)) for column in columns)])
    tables = [table(head, rows, numbers=True)]
    name = spoken(metric)
    lead = f"{name[:1].upper()}{name[1:]} on each client of “{spoken(part)}” after the last round."
    if len(found) == 2:
        tables.append(_differences(found[0], found[1], metric))
    return section(f"Clients: {spoken(part)}", lead, pictures, tables, wide=True)


def _differences(a: tuple, b: tuple, metric: str) -> dict[str, Any]:
    """Returns the clients whose results differ most between two runs."""
    _, _, label_a, _, values_a = a
    _, run, label_b, last, values_b = b
    first: Mapping[str, float] = values_a[metric]
    second: Mapping[str, float] = values_b[metric]
    sizes = dict(run.query("SELECT client_id, num_examples FROM evaluations WHERE round = ?", last))
    both = [client_id for client_id in first if client_id in second]
    both.sort(key=lambda client_id: -abs(second[client_id] - first[client_id]))
    rows = []
    for client_id in both[:_MOST_CLIENTS]:
        change = second[client_id] - first[client_id]
        sign = "+" if change > 0 else "−" if change < 0 else ""
        rows.append(
            [
                client_id,
                number(sizes.get(client_id)),
                number(first[client_id]),
                number(second[client_id]),
                f"{sign}{abs(change):.3g}" if math.isfinite(change) else "",
            ]
        )
    head = ["clients that differ most", "examples", label_a, label_b, "difference"]
    return table(head, rows, numbers=True)


def _costs(runs: Sequence[RecordedRun], labels: Sequence[str]) -> Section:
    rows = []
    for run, label in zip(runs, labels):
        seconds, down, up = (run.total(c) for c in ("seconds", "bytes_down", "bytes_up"))
        epsilons = run.curve("epsilon")[1]
        rows.append(
            [
                label,
                duration(seconds) if seconds else "",
                size(down) if down else "",
                size(up) if up else "",
                number(run.total("clients_dropped")),
                number(epsilons[-1]) if epsilons else "",
            ]
        )
    head = [
        "run",
        "training time",
        "would be sent down",
        "would be sent up",
        "dropped clients",
        "ε",
    ]
    kept = [0, *(i for i in range(1, len(head)) if any(row[i] not in ("", "0") for row in rows))]
    return section(
        "Costs",
        tables=[table([head[i] for i in kept], [[row[i] for i in kept] for row in rows], True)],
    )
