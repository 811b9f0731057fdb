"""Pictures of what each client has: sizes, distances, and labels by client."""

import os
from typing import Any, NamedTuple

import numpy as np

from fedlab import _figure, _svg
from fedlab.data import description as description_lib
from fedlab.data.description import Description

_FEW = 30  # clients that are shown one by one
_FEW_CELLS = 15  # rows and columns whose cells have numbers
_MOST_CLIENTS = 1000  # columns of a heat map
_MOST_NAMES = 36  # of labels
_BINS = 30
_SIZE = (4.2, 2.8)
_WIDTH = 9.0


class Picture(NamedTuple):
    """A figure, its title, and whether it takes the width of the page."""

    figure: Any
    title: str
    wide: bool = False


def pictures(found: Description) -> list[Picture]:
    """Returns the pictures of a description for a report."""
    drawn = [Picture(_sized(_sizes, found, _SIZE), "Examples per client")]
    if found.kind:
        title = f"Distance of each client's labels to all labels: mean {found.mean_distance:.3g}"
        drawn.append(Picture(_sized(_distances, found, _SIZE), title))
        size = (_WIDTH, _height(found))
        drawn.append(Picture(_sized(_heat_map, found, size), _heat_title(found), wide=True))
    return drawn


def save(found: Description, file: str | os.PathLike) -> None:
    """Writes the pictures of a description as one PNG."""
    heights = [3.2, _height(found)] if found.kind else [3.2]
    figure = _figure.new(_WIDTH, sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    numbers = description_lib.counts_of_all(found)
    parts[0].suptitle(_figure.plain(", ".join(f"{n} {what}" for what, n in numbers)), fontsize=10)
    axes = parts[0].subplots(1, 2 if found.kind else 1, squeeze=False)[0]
    for axis, draw in zip(axes, (_sizes, _distances)):
        draw(figure, axis, found)
        _styled(axis)
    if found.kind:
        axes[1].set_title(f"Distance to all labels: mean {found.mean_distance:.3g}", fontsize=9)
        axis = parts[1].subplots()
        _heat_map(parts[1], axis, found)
        axis.set_title(_heat_title(found), fontsize=9)
        _styled(axis, grid=False)
    axes[0].set_title("Examples per client", fontsize=9)
    _figure.save(figure, file)


def _sized(draw: Any, found: Description, size: tuple[float, float]) -> Any:
    figure, axis = _svg.new(*size)
    draw(figure, axis, found)
    return figure


def _styled(axis: Any, grid: bool = True) -> None:
    axis.tick_params(labelsize=8)
    axis.xaxis.label.set_fontsize(9)
    axis.yaxis.label.set_fontsize(9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
    if grid:
        axis.grid(alpha=0.2, linewidth=0.6)


def _sizes(figure: Any, axis: Any, found: Description) -> None:
    """Bars for a few clients, a histogram for many."""
    sizes, colour = found.num_examples, _figure.COLOURS[0]
    if len(sizes) <= _FEW:
        axis.bar(np.arange(len(sizes)), sizes, color=colour)
        _name_clients(axis, found.client_ids)
        axis.set(ylabel="examples")
    else:
        smallest, largest = int(sizes.min()), int(sizes.max())
        if largest > 50 * max(1, smallest):
            # Clients without examples are in the first bar.
            axis.hist(
                np.maximum(1, sizes), np.geomspace(max(1, smallest), largest, _BINS), color=colour
            )
            axis.set_xscale("log")
        else:
            step = -(-(largest - smallest + 1) // _BINS)
            edges = np.arange(smallest - 0.5, largest + step, step)
            axis.hist(sizes, edges, color=colour)
            axis.set_xlim(min(edges[0], largest - 5), max(edges[-1], smallest + 5))
            axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set(xlabel="examples", ylabel="clients")
    axis.yaxis.get_major_locator().set_params(integer=True)


def _distances(figure: Any, axis: Any, found: Description) -> None:
    """Bars for a few clients, a histogram for many."""
    distances, colour = found.distances, _figure.COLOURS[2]
    unit = "0 to 2" if found.kind == "classes" else "standard deviations"
    name = f"earth mover's distance ({unit})"
    if len(distances) <= _FEW:
        axis.bar(np.arange(len(distances)), np.nan_to_num(distances), color=colour)
        _name_clients(axis, found.client_ids)
        axis.set(ylabel=name)
        if found.kind == "classes":
            axis.set_ylim(0, 2)
    else:
        finite = distances[np.isfinite(distances)]
        most = 2.0 if found.kind == "classes" else max(finite.max(), 1e-9)
        axis.hist(finite, np.linspace(0, most, _BINS + 1), color=colour)
        axis.set(xlabel=name, ylabel="clients")
        axis.yaxis.get_major_locator().set_params(integer=True)


def _heat_map(figure: Any, axis: Any, found: Description) -> None:
    """The share of each label at each client."""
    order = _order(found)
    shares = found.shares[order].T  # [labels, clients]
    most = 1.0 if len(found.labels) <= 3 else max(0.05, float(np.quantile(shares, 0.995)))
    image = axis.imshow(
        shares, aspect="auto", interpolation="nearest", cmap=_shades(), vmin=0, vmax=most
    )
    axis.grid(False)
    names = [_figure.plain(_figure.shortened(name, 24)) for name in found.labels]
    step = -(-len(names) // _MOST_NAMES)
    axis.set_yticks(range(0, len(names), step), names[::step])
    if len(order) <= _FEW:
        _name_clients(axis, [found.client_ids[i] for i in order])
    else:
        by = "most frequent label" if found.kind == "classes" else "mean"
        axis.set(xlabel=f"clients, sorted by their {by}")
    axis.set_ylabel(_figure.plain(found.label or ""))
    if len(order) <= _FEW_CELLS:
        for (row, column), share in np.ndenumerate(shares):
            if share > 0:
                axis.text(
                    column,
                    row,
                    f"{share:.0%}" if share >= 0.005 else "<1%",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if share > 0.6 * most else axis.yaxis.label.get_color(),
                )
    bar = figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03)
    bar.set_label("share of the client's labels", fontsize=8, color=axis.yaxis.label.get_color())
    bar.ax.tick_params(labelsize=8, colors=axis.yaxis.label.get_color())
    bar.outline.set_visible(False)


def _shades() -> Any:
    """From transparent to dark blue, for light and for dark pages."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    blue = to_rgb(_figure.COLOURS[0])
    return LinearSegmentedColormap.from_list("shades", [(*blue, 0.0), (*blue, 1.0)])


def _order(found: Description) -> np.ndarray:
    """Returns the clients of the heat map: in their order if few, else sorted by label."""
    if len(found.client_ids) <= _FEW:
        return np.arange(len(found.client_ids))
    shares = found.shares
    if found.kind == "numbers":
        order = np.argsort(shares @ np.arange(shares.shape[1]), kind="stable")
    else:
        first = shares.argmax(axis=1)
        order = np.lexsort([-shares.max(axis=1), first])
    if len(order) > _MOST_CLIENTS:
        order = order[np.linspace(0, len(order) - 1, _MOST_CLIENTS).round().astype(int)]
    return order


def _heat_title(found: Description) -> str:
    num_clients = min(len(found.client_ids), _MOST_CLIENTS)
    of = "" if num_clients == found.num_clients else f" of {found.num_clients:,}"
    return f"Labels by client: {num_clients:,}{of} clients"


def _height(found: Description) -> float:
    return 1.6 + 0.2 * min(_MOST_NAMES, max(5, len(found.labels)))


def _name_clients(axis: Any, client_ids: Any) -> None:
    names = [_figure.plain(_figure.shortened(client_id, 16)) for client_id in client_ids]
    turned = len(names) > 6 or max(map(len, names)) > 10
    axis.set_xticks(range(len(names)), names, rotation=60 if turned else 0)
    if turned:
        for tick in axis.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
