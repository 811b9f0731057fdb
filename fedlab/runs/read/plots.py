"""Pictures of runs: curves, histograms over clients, and bars."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _figure, _svg

_SIZE = (4.2, 2.8)  # inches, the width of a phone
_DASHES = ("-", "--", "-.", ":")  # curves differ by more than their colour
_MOST_MARKERS = 30
_BINS = 24
_MOST = 1e100  # larger numbers overflow in matplotlib's computation of the axes


class Series(NamedTuple):
    """A curve.

    Attributes:
      label: its name in the legend.
      x, y: its points.
      low, high: the bounds of a band around it, or None.
      colour: the number of its colour; by default its position among the curves.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int | None = None


def curves(
    series: Sequence[Series], xlabel: str, ylabel: str, size: tuple[float, float] = _SIZE
) -> Any:
    """Returns a figure with some curves.

    Args:
      series: the curves.
      xlabel, ylabel: the labels of the axes.
      size: width and height in inches.
    """
    figure, axis = _svg.new(*size)
    for i, each in enumerate(series):
        number = i if each.colour is None else each.colour
        colour = _figure.COLOURS[number % len(_figure.COLOURS)]
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
            linestyle=_DASHES[number % len(_DASHES)],
        )
        if each.low is not None and each.high is not None:
            band = _drawable(each.low), _drawable(each.high)
            axis.fill_between(each.x, *band, color=colour, alpha=0.2, linewidth=0)
    axis.set(xlabel=xlabel, ylabel=_figure.plain(ylabel))
    if xlabel == "round":
        axis.xaxis.get_major_locator().set_params(integer=True)
    _svg.legend(figure, columns=1 if max(len(each.label) for each in series) > 28 else 2)
    return figure


def distribution(
    values: np.ndarray,
    name: str,
    worst: np.ndarray,
    before: np.ndarray | None = None,
    labels: tuple[str, str] = ("now", "before training"),
) -> Any:
    """Returns a figure with a histogram of a metric over clients.

    Args:
      values: [clients] float.
      name: the name of the metric.
      worst: [clients] bool, which clients are the tenth with the worst values.
      before: [clients] float, the values of an earlier round, drawn as a line; or None.
      labels: the names of `values` and `before` in the legend.
    """
    figure, axis = _svg.new(*_SIZE)
    values = np.clip(values, -_MOST, _MOST)
    before = None if before is None else np.clip(before, -_MOST, _MOST)
    both = values if before is None else np.concatenate([values, before])
    edges = np.histogram_bin_edges(both, min(_BINS, max(4, len(values) // 2)))
    colours = [_figure.COLOURS[0], _figure.COLOURS[4]]
    names = [labels[0], "worst tenth"]
    axis.hist([values[~worst], values[worst]], edges, stacked=True, color=colours, label=names)
    if before is not None:
        axis.hist(before, edges, histtype="step", color=_svg.INK, linewidth=1.2, label=labels[1])
    mean = values.mean()
    axis.axvline(mean, color=_svg.INK, linewidth=1.2, linestyle="--", label=f"mean {mean:.3g}")
    axis.set(xlabel=_figure.plain(name), ylabel="clients")
    axis.yaxis.get_major_locator().set_params(integer=True)
    _svg.legend(figure, columns=2)
    return figure


def bars(x: Sequence[int], heights: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Any:
    """Returns a figure with stacked bars.

    Args:
      x: the positions of the bars.
      heights: label -> [len(x)] heights, stacked in this order.
      xlabel, ylabel: the labels of the axes.
    """
    figure, axis = _svg.new(*_SIZE)
    bottom: Any = np.zeros(len(x))
    colours = (_figure.COLOURS[0], _figure.COLOURS[4])
    for colour, (label, values) in zip(colours, heights.items()):
        axis.bar(
            x,
            values,
            bottom=bottom,
            width=1.0 if len(x) > _MOST_MARKERS else 0.8,
            color=colour,
            label=label if len(heights) > 1 else None,
        )
        bottom = bottom + np.asarray(values)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    for each in (axis.xaxis, axis.yaxis):
        each.get_major_locator().set_params(integer=True)
    _svg.legend(figure, columns=2)
    return figure


def _drawable(values: Sequence[float]) -> np.ndarray:
    """Returns the numbers with NaN in place of infinite and too large ones."""
    array = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(array) <= _MOST, array, np.nan)


def svg(figure: Any, name: str) -> str:
    """Returns a figure as an <svg> element. The name is unique within the page."""
    return _svg.text(figure, name)


def save(figure: Any, file: str | os.PathLike) -> None:
    """Writes a figure as PNG on a white background."""
    _figure.save(figure, file)
