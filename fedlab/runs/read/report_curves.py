"""The section of a report on learning curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedlab._wording import duration, number, spoken, unit
from fedlab.runs.read import plots, results, summary
from fedlab.runs.read.recorded import RecordedRun
from fedlab.runs.read.report_parts import Section, finite, picture, section, table


def learning_curves(run: RecordedRun) -> Section:
    """One picture for each metric by round; the same by bytes and by seconds, collapsed."""
    groups: dict[str, list[str]] = {}
    for column in run.metrics:
        groups.setdefault(run.split(column)[1].removeprefix("personal_"), []).append(column)
    by_axis: dict[str, list[dict[str, Any]]] = {}
    colours: dict[str, int] = {}
    axes, notes, size = _axes(run), [], (4.4, 2.9)
    for metric, columns in groups.items():
        columns = [name for name in columns if finite(run.curve(name)[1])]
        if _is_constant(run, columns):
            notes += [_constant(run, name) for name in columns]
            continue
        columns, twins = _distinct(run, columns)
        notes += [f"{spoken(a)} has the same values as {spoken(b)}." for a, b in twins]
        for xlabel, places in axes.items():
            series = [_series(run, column, places, colours) for column in columns]
            figure = plots.curves(series, xlabel, spoken(metric), size)
            title = f"{spoken(metric)} by {xlabel}"
            about = f"{title}. {' '.join(_told(run, column) for column in columns)}"
            each = picture(figure, f"curve {metric} {xlabel}", title, about)
            by_axis.setdefault(xlabel, []).append(each)
    if not by_axis and not notes:
        return section("Learning curves", "No round is evaluated yet.")
    lead = "Round 0 is before training."
    if run.per_client_parts:
        lead += " Bands span the 10th to the 90th percentile over clients."
    lead = " ".join([lead, *notes])
    sets = [(spoken(part), results.explanation(run, part)) for part in run.parts]
    first, *others = by_axis or [""]
    more = [
        section(f"Learning curves by {_axis_title(axis)}", _axis_lead(run, axis), by_axis[axis])
        for axis in others
    ]
    kinds = table(["set", "what it is"], sets)
    return section("Learning curves", lead, by_axis.get(first, ()), [kinds], more=more, wide=True)


def _axes(run: RecordedRun) -> dict[str, dict[int, float]]:
    """Returns axis -> round -> position, for the axes that the run has numbers for."""
    axes = {"round": run.places("round")}
    if sent := run.total("bytes_down") + run.total("bytes_up"):
        divisor, name = unit(sent)
        axes[f"{name} sent"] = {r: place / divisor for r, place in run.places("bytes").items()}
    if run.total("seconds"):
        axes["seconds"] = seconds(run)
    return axes


def seconds(run: RecordedRun) -> dict[int, float]:
    """Returns the seconds of training up to each round, without graph compilation."""
    extra = summary.compilation_seconds(run)
    return {r: place - extra * (r >= 1) for r, place in run.places("seconds").items()}


def _axis_title(axis: str) -> str:
    return "training time" if axis == "seconds" else "bytes"


def _axis_lead(run: RecordedRun, axis: str) -> str:
    if axis != "seconds":
        return "What would be sent in a real deployment, the sum of both directions."
    lead = "Seconds are training time, without evaluation."
    if extra := summary.compilation_seconds(run):
        first = duration(run.curve("seconds")[1][0])
        lead += (
            f" Round 1 took {first}. About {duration(extra)} of that was the compilation of the "
            "graph, which the axis leaves out."
        )
    return lead


def _series(
    run: RecordedRun, column: str, places: Mapping[int, float], colours: dict[str, int]
) -> plots.Series:
    """Returns the curve of a column. A set has the same colour in every picture."""
    rounds, values = run.curve(column)
    part, name = run.split(column)
    label = spoken(part) + (" (fine-tuned)" if name.startswith("personal_") else "")
    bands = [dict(zip(*run.curve(f"{column}_{end}"))) for end in ("p10", "p90")]
    low, high = ([band.get(r, math.nan) for r in rounds] if band else None for band in bands)
    colour = colours.setdefault(label, len(colours))
    return plots.Series(label, [places[r] for r in rounds], values, low, high, colour)


def _is_constant(run: RecordedRun, columns: Sequence[str]) -> bool:
    """Whether no column changes from one round to another."""
    return all(len({*run.curve(column)[1]}) == 1 for column in columns)


def _constant(run: RecordedRun, column: str) -> str:
    rounds, values = run.curve(column)
    when = f"in round {rounds[0]}" if len(rounds) == 1 else "in every evaluation"
    part, metric = run.split(column)
    name = spoken(metric)
    return f"{name[:1].upper()}{name[1:]} on {spoken(part)} is {number(values[0])} {when}."


def _distinct(run: RecordedRun, columns: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Returns the columns without repeated curves, and pairs of equal columns."""
    kept: dict[tuple, str] = {}
    twins = []
    for column in columns:
        rounds, values = run.curve(column)
        key = tuple(rounds), tuple(values)
        if key in kept:
            twins.append((column, kept[key]))
        else:
            kept[key] = column
    return [*kept.values()], twins


def _told(run: RecordedRun, column: str) -> str:
    rounds, values = run.curve(column)
    part, _ = run.split(column)
    return (
        f"{spoken(part)}: {number(values[0])} in round {rounds[0]}, {number(values[-1])} in "
        f"round {rounds[-1]}."
    )
