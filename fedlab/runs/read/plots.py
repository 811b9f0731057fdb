"""Pictures of runs: curves, clients as a distribution, who took part."""

from typing import Any, NamedTuple

import numpy as np

from fedlab import _figure
from fedlab.runs.read import _svg

_SIZE = (3.6, 2.7)  # inches, as wide as a phone
_MOST_MARKERS = 30
_BINS = 24
_MOST = 1e100  # larger numbers overflow where a picture's axes are computed


class Series(NamedTuple):
    """A curve: its points, a band around them where there is one, and the number of its colour, by default its place."""

    label: str
    x: Any
    y: Any
    low: Any = None
    high: Any = None
    colour: Any = None


def curves(series, xlabel, ylabel, size=_SIZE):
    """Some `Series` in one figure."""
    figure, axis = _svg.new(*size)
    for i, each in enumerate(series):
        number = i if each.colour is None else each.colour
        colour = _figure.COLOURS[number % len(_figure.COLOURS)]
        style = {} if number < len(_figure.COLOURS) else {"linestyle": "--"}
        marker = "o" if len(each.x) <= _MOST_MARKERS else None
        label = _figure.plain(_figure.shortened(each.label, 60))
        axis.plot(
            each.x,
            _drawable(each.y),
            color=colour,
            linewidth=1.5,
            marker=marker,
            markersize=3,
            label=label,
            **style,
        )
        if each.low is not None:
            axis.fill_between(
                each.x,
                _drawable(each.low),
                _drawable(each.high),
                color=colour,
                alpha=0.2,
                linewidth=0,
            )
    axis.set(xlabel=xlabel, ylabel=_figure.plain(ylabel))
    if xlabel == "round":
        axis.xaxis.get_major_locator().set_params(integer=True)
    _svg.legend(figure, columns=1 if max(len(each.label) for each in series) > 28 else 2)
    return figure


def distribution(values, name, worst, before=None, labels=("now", "before training")):
    """A histogram of a metric over clients.

    Args:
      values: [clients].
      name: of the metric.
      worst: mask [clients]: the tenth of the clients that the metric is worst for.
      before: [clients] of an earlier round, drawn as a line, or None.
      labels: of the two.
    """
    figure, axis = _svg.new(*_SIZE)
    values = np.clip(values, -_MOST, _MOST)
    before = None if before is None else np.clip(before, -_MOST, _MOST)
    edges = np.histogram_bin_edges(
        values if before is None else np.concatenate([values, before]),
        min(_BINS, max(4, len(values) // 2)),
    )
    parts = [values[~worst], values[worst]]
    axis.hist(
        parts,
        edges,
        stacked=True,
        color=[_figure.COLOURS[0], _figure.COLOURS[4]],
        label=[labels[0], "worst tenth"],
    )
    if before is not None:
        axis.hist(before, edges, histtype="step", color=_svg.INK, linewidth=1.2, label=labels[1])
    axis.axvline(
        values.mean(),
        color=_svg.INK,
        linewidth=1.2,
        linestyle="--",
        label=f"mean {values.mean():.3g}",
    )
    axis.set(xlabel=_figure.plain(name), ylabel="clients")
    axis.yaxis.get_major_locator().set_params(integer=True)
    _svg.legend(figure, columns=2)
    return figure


def bars(x, heights, xlabel, ylabel):
    """Counts by a whole number; `heights`: label -> [len(x)], one on the other."""
    figure, axis = _svg.new(*_SIZE)
    bottom = np.zeros(len(x))
    for colour, (label, values) in zip((_figure.COLOURS[0], _figure.COLOURS[4]), heights.items()):
        axis.bar(
            x,
            values,
            bottom=bottom,
            width=1.0 if len(x) > _MOST_MARKERS else 0.8,
            color=colour,
            label=label if len(heights) > 1 else None,
        )
        bottom = bottom + values
    axis.set(xlabel=xlabel, ylabel=ylabel)
    for each in (axis.xaxis, axis.yaxis):
        each.get_major_locator().set_params(integer=True)
    _svg.legend(figure, columns=2)
    return figure


def _drawable(values):
    """The numbers with NaN in place of those that are none, or are too large."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) <= _MOST, values, np.nan)


def svg(figure, name):
    """The figure as an <svg> element for a page, in which no other picture has this name."""
    return _svg.text(figure, name)


def save(figure, file):
    """Writes the figure as PNG, on white."""
    _figure.save(figure, file)
