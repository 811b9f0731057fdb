"""A run's history as a short text, a picture and a data frame. Needs no TensorFlow."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fedlab import _checks, _extras
from fedlab._text import visible
from fedlab._wording import duration, number, spoken
from fedlab.evaluation.metric_names import STATISTICS, best, by_importance

Row = Mapping[str, Any]

_TABLES = ("history", "clients", "evaluations")
_PANEL = (4.2, 3.0)  # inches
_MOST_COLUMNS = 2  # of panels
_MOST_MARKERS = 30


def metrics(history: Sequence[Row]) -> list[str]:
    """Returns the columns that are evaluations or training metrics, the main one first.

    Statistics over clients are left out. Round 0 has the evaluations and nothing else.

    Example:
      >>> metrics([{"round": 0, "test_loss": 2.0}, {"round": 1, "train_loss": 1.0, "seconds": 3.0}])
      ['test_loss', 'train_loss']
    """
    evaluated = [name for name in (history[0] if history else ()) if name != "round"]
    trained = [name for row in history for name in row if name.startswith("train_")]
    ends = tuple(f"_{end}" for end in (*STATISTICS, "gain"))
    names = dict.fromkeys([*evaluated, *trained])
    return by_importance(name for name in names if not name.endswith(ends))


def curve(history: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Returns the rounds in which a column has a finite number, and the numbers."""
    points = [
        (row["round"], row[name])
        for row in history
        if _checks.is_number(row.get(name)) and math.isfinite(row[name])
    ]
    return [x for x, _ in points], [y for _, y in points]


def summary(history: Sequence[Row], settings: Row, path: os.PathLike | None, ended: str) -> str:
    """Returns a run as a short table: what ran, and its metrics at first, at last and at best.

    Args:
      history: the rows of the rounds.
      settings: the contents of config.json, or {}.
      path: the run folder, or None.
      ended: a remark on the end of the run, or "".
    """
    trained = [row for row in history if row["round"]]
    num_rounds = trained[-1]["round"] if trained else 0
    asked = sum(row.get("clients_asked") or 0 for row in trained)
    dropped = sum(row.get("clients_dropped") or 0 for row in trained)
    seconds = sum(row.get("seconds") or 0 for row in trained)
    facts = [
        settings.get("algorithm", ""),
        f"{num_rounds:,} round{'s' * (num_rounds != 1)}",
        f"{asked / len(trained):.4g} clients per round" if asked else "",
        f"{dropped:,} dropped" if dropped else "",
        f"{duration(seconds)} of training" if seconds else "",
    ]
    lines = [f"Run: {', '.join(filter(None, facts))}"]
    lines += [ended] if ended else []
    rows = [["", "first", "last", "best"]]
    for name in metrics(history):
        rounds, values = curve(history, name)
        if values:
            top = best(values, name)
            where = f"{number(top)} in round {rounds[values.index(top)]}"
            rows.append([spoken(name), number(values[0]), number(values[-1]), where])
    if len(rows) > 1:
        columns = [[visible(cell) for cell in column] for column in zip(*rows)]
        widths = [max(map(len, column)) for column in columns]
        for cells in zip(*columns):
            first, *numbers = (f"{cell:<{width}}" for cell, width in zip(cells, widths))
            lines.append("  ".join([first, *numbers]).rstrip())
    if path is not None:
        lines.append(f"in {visible(os.fspath(path))}")
    return "\n".join(lines)


def plot(history: Sequence[Row], path: str | os.PathLike | None = None) -> Any:
    """Returns a figure with the curves of all metrics, one panel per metric.

    Args:
      history: the rows of the rounds.
      path: a PNG file to write, or None.

    Raises:
      ValueError: no round has a metric.
      ModuleNotFoundError: matplotlib is not installed.
    """
    from fedlab import _figure

    panels = _panels(history)
    if not panels:
        raise ValueError("the run has no metrics to plot: expected at least one finished round")
    columns = min(len(panels), _MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = _figure.new(_PANEL[0] * columns, _PANEL[1] * rows)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (metric, curves) in zip(axes, panels.items()):
        for i, (part, name) in enumerate(curves.items()):
            rounds, values = curve(history, name)
            style = {"color": _figure.COLOURS[i % len(_figure.COLOURS)], "linewidth": 1.5}
            marker = "o" if len(rounds) <= _MOST_MARKERS else None
            label = _figure.plain(spoken(part))
            axis.plot(rounds, values, label=label, marker=marker, markersize=3, **style)
        axis.set(xlabel="round", ylabel=_figure.plain(spoken(metric)))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9)
    for axis in axes[len(panels) :]:
        axis.remove()
    if path is not None:
        _figure.save(figure, path)
    return figure


def to_dataframe(table: str, rows: Callable[[str], Iterable[Row]]) -> Any:
    """Returns a table of a run as a pandas.DataFrame.

    Args:
      table: "history", "clients" or "evaluations".
      rows: table -> its rows.

    Raises:
      ValueError: `table` is another name.
      ModuleNotFoundError: pandas is not installed.
    """
    if table not in _TABLES:
        raise _checks.value_error("table", table, "'history', 'clients' or 'evaluations'")
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise _extras.error("data frames need", "pandas") from None
    return pd.DataFrame([_flat(row) for row in rows(table)])


def _flat(row: Row) -> dict[str, Any]:
    """A row with the training metrics of a client as columns, named as in the history."""
    more = {f"train_{name}": value for name, value in (row.get("metrics") or {}).items()}
    return {**{name: value for name, value in row.items() if name != "metrics"}, **more}


def _panels(history: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Returns metric -> part, such as "test" -> column. Losses come first."""
    columns = [name for name in metrics(history) if curve(history, name)[1]]
    trained = [name.removeprefix("train_") for name in columns if name.startswith("train_")]
    found: dict[str, dict[str, str]] = {name: {} for name in trained}
    for column in columns:
        metric = max((m for m in trained if column.endswith(f"_{m}")), key=len, default=column)
        part = column.removesuffix(f"_{metric}") if metric != column else column
        found.setdefault(metric, {})[part] = column
    return found
