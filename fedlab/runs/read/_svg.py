"""Pictures as SVG that stand in a page: in the page's own colour of text, on its own background, light or dark."""

import io
import re
import warnings

from fedlab import _figure

INK = "#123456"  # what `text` replaces by the colour of the text around the picture; in a PNG it stays, dark enough on white

_BLUE = _figure.COLOURS[0].lower()  # too dark for a dark page, which may say another: --blue


def new(width, height):
    """As `_figure.new`, with axes, ticks and texts in `INK`: (figure, axis)."""
    figure = _figure.new(width, height)
    axis = figure.subplots()
    axis.tick_params(colors=INK, labelsize=8)
    for spine in axis.spines.values():
        spine.set_color(INK)
    axis.spines[["top", "right"]].set_visible(False)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set(color=INK, fontsize=9)
    axis.grid(color=INK, alpha=0.15, linewidth=0.6)
    axis.set_axisbelow(True)
    return figure, axis


def legend(figure, columns):
    """A legend below the axes; a figure without labels gets none."""
    if figure.axes[0].get_legend_handles_labels()[1]:
        figure.legend(
            loc="outside lower center", frameon=False, fontsize=8, labelcolor=INK, ncols=columns
        )


def text(figure, name):
    """The <svg> element of a figure.

    Args:
      figure: what `new` gave.
      name: another for each picture of a page: it makes their inner names differ, and always the same.
    """
    import matplotlib

    out = io.StringIO()
    # Texts stay texts, which are small and can be found and copied.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from"
        )  # the browser has other fonts
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = re.sub(
        '<g id="[^"]*"', "<g", out.getvalue()
    )  # names that every picture has and nothing refers to
    return (
        text[text.index("<svg") :]
        .replace(INK, "currentColor")
        .replace(_BLUE, f"var(--blue, {_BLUE})")
    )
