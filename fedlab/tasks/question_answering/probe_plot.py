"""Plots of a probe's losses, outputs and weights by round."""

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from fedlab import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedlab.tasks.question_answering.probe import Record

_MASKED = -1e8  # lower outputs are those of padding
_MOST_LABELS = 128  # tokens that are readable side by side in a figure of maximum width
_WIDTH = 14.0  # inches, the maximum
_BINS = 60
_MOST_LINES = 8  # maximum number of weights that are drawn as single lines
_MOST_MARKERS = 30


def draw(record: "Record", folder: str | os.PathLike) -> list[pathlib.Path]:
    """Draws a `fedlab.tasks.question_answering.probe.Record`.

    Args:
      record: a record with at least one round.
      folder: the folder for the pictures, which is created if needed.

    Returns:
      The paths of probe_loss.png, probe_output_<i>.png for each example, and
      probe_weights.png.

    Raises:
      ModuleNotFoundError: matplotlib is not installed.
    """
    folder = pathlib.Path(folder)
    figures = {"probe_loss.png": loss_figure(record)}
    for i in range(record.outputs.shape[1]):
        figures[f"probe_output_{i}.png"] = output_figure(record, i)
    figures["probe_weights.png"] = weights_figure(record)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        _figure.save(figure, folder / name)
    return [folder / name for name in figures]


def loss_figure(record: "Record") -> "Figure":
    """Draws the loss of each example by round, and the mean."""
    figure = _figure.new(7, 4)
    axis = figure.subplots()
    marker = "o" if len(record.rounds) <= _MOST_MARKERS else None
    for i in range(record.losses.shape[1]):
        colour = _figure.COLOURS[i % len(_figure.COLOURS)]
        axis.plot(
            record.rounds,
            record.losses[:, i],
            color=colour,
            linewidth=1,
            marker=marker,
            markersize=3,
            label=_title(record, i, 45),
        )
    if record.losses.shape[1] > 1:
        axis.plot(
            record.rounds, record.losses.mean(axis=1), color="black", linewidth=2, label="mean"
        )
    axis.set(title="Loss of the probe's examples", xlabel="round", ylabel="loss")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylim(bottom=min(0, record.losses.min()))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        loc="outside lower center",
        frameon=False,
        fontsize=8,
        ncols=2 if record.losses.shape[1] < 6 else 3,
    )
    return figure


def output_figure(record: "Record", example: int) -> "Figure":
    """Draws heat maps of an example's outputs by round, one per output row.

    The expected positions are marked.
    """
    outputs = record.outputs[:, example].astype(np.float64)
    outputs = outputs.reshape(
        len(outputs), -1 if outputs.ndim > 2 else 1, outputs.shape[-1]
    )  # [rounds, panels, positions]
    outputs = np.ma.masked_less(outputs, _MASKED)
    some = np.flatnonzero(~np.ma.getmaskarray(outputs).all(axis=(0, 1))).tolist()
    shown = 1 + max(some, default=0)
    outputs = outputs[:, :, :shown]
    panels = outputs.shape[1]
    labels = (
        [_figure.plain(str(label)) for label in record.labels[example][:shown]]
        if record.labels.size
        else []
    )
    expected = _expected(record.columns["y"][example], panels, shown)
    spans = panels == 2 and expected is not None
    names = (
        ("start logits", "end logits")
        if spans
        else ("outputs",)
        if panels == 1
        else [f"outputs {i}" for i in range(panels)]
    )
    named = bool(labels) and len(labels) == shown <= _MOST_LABELS
    height = min(4.0, 1.2 + 0.12 * len(outputs))
    width = min(_WIDTH, max(6.0, 2.5 + 0.19 * shown))
    figure = _figure.new(width, 0.7 + panels * height + (0.5 if named else 0))
    axes = figure.subplots(panels, 1, squeeze=False, sharex=True)[:, 0]
    for panel, axis in enumerate(axes):
        values = outputs[:, panel]
        # Rounds need not be evenly spaced.
        mesh = axis.pcolormesh(
            np.arange(shown + 1) - 0.5, _edges(record.rounds), values, cmap="viridis"
        )
        title = names[panel]
        if expected is not None and 0 <= expected[panel] < shown:
            place = int(expected[panel])
            for edge in (place - 0.5, place + 0.5):
                axis.axvline(edge, color="#D55E00", linewidth=1.3)
            called = f" {labels[place]!r}" if labels else ""
            title += f" (between the lines: expected, position {place}{called})"
        axis.set_title(title, fontsize=9)
        axis.set_ylabel("round")
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.invert_yaxis()
        figure.colorbar(mesh, ax=axis, pad=0.01, label="logit" if spans else "output")
    if named:
        axes[-1].set_xticks(
            range(shown), labels, rotation=90, fontsize=min(7, 0.8 * 72 * (width - 1.5) / shown)
        )  # of a cell's width
        for axis in axes:
            axis.tick_params(axis="x", pad=2, length=2)
        axes[-1].set_xlabel("token")
    else:
        axes[-1].set_xlabel("position")
    figure.suptitle(_title(record, example, 100), fontsize=10)
    return figure


def weights_figure(record: "Record") -> "Figure":
    """Draws histograms of the weights by round as heat maps; arrays of few weights as lines."""
    figure = _figure.new(7, 0.6 + 3 * len(record.weights))
    axes = figure.subplots(len(record.weights), 1, squeeze=False)[:, 0]
    for axis, (name, values) in zip(axes, record.weights.items()):
        values = values.reshape(len(values), -1)  # [rounds, weights]
        if values.shape[1] <= _MOST_LINES:
            marker = "o" if len(values) <= _MOST_MARKERS else None
            for i in range(values.shape[1]):
                style = dict(color=_figure.COLOURS[i], marker=marker, markersize=3, linewidth=1)
                axis.plot(values[:, i], record.rounds, label=f"number {i}", **style)
            if values.shape[1] > 1:
                axis.legend(frameon=False, fontsize=8)
            edges = _edges(record.rounds)
            axis.set_ylim(edges[0], edges[-1])
            axis.grid(alpha=0.3)
        else:
            _histogram(figure, axis, record.rounds, values)
        axis.set_title(
            f"{_figure.plain(name)}: {values.shape[1]:,} weight{'s' * (values.shape[1] > 1)}",
            fontsize=9,
        )
        axis.set(xlabel="value", ylabel="round")
        axis.ticklabel_format(
            axis="x", scilimits=(-2, 3)
        )  # else the digits of small values run into each other
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.invert_yaxis()
    figure.suptitle("Weights by round", fontsize=10)
    return figure


def _histogram(figure, axis, rounds, values):
    edges = np.histogram_bin_edges(values, _BINS)
    shares = np.stack([np.histogram(row, edges)[0] / len(row) for row in values])
    mesh = axis.pcolormesh(edges, _edges(rounds), np.ma.masked_equal(shares, 0), cmap="viridis_r")
    figure.colorbar(mesh, ax=axis, pad=0.01, label="share of the weights")


def _expected(y, panels, positions):
    """Returns the expected position of each panel, or None if y is not positions."""
    if y.dtype.kind not in "iu" or y.size != panels or y.max() >= positions:
        return None
    return y.reshape(-1)


def _edges(rounds):
    """Returns the borders of the cells of rounds, [r + 1], halfway between neighbours."""
    if len(rounds) == 1:
        return np.array([rounds[0] - 0.5, rounds[0] + 0.5])
    middle = (rounds[1:] + rounds[:-1]) / 2
    return np.concatenate(
        [[rounds[0] - (middle[0] - rounds[0])], middle, [rounds[-1] + (rounds[-1] - middle[-1])]]
    )


def _title(record, example, length):
    title = str(record.titles[example]) if record.titles.size else f"example {example}"
    return _figure.plain(_figure.shortened(title, length))
