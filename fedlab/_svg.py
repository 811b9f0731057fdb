"""Pictures as SVG elements that take the text colour of their page, light or dark."""

import io
import re
import warnings
from typing import Any

from fedlab import _figure

# `text` replaces this by the text colour of the page. In a PNG it is dark enough on white.
INK = "#123456"


def new(width: float, height: float) -> tuple[Any, Any]:
    """Returns (figure, axis) of this size in inches, with axes, ticks and texts in `INK`."""
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


def legend(figure: Any, columns: int) -> None:
    """Adds a legend below the axes if there are labels."""
    if figure.axes[0].get_legend_handles_labels()[1]:
        figure.legend(
            loc="outside lower center", frameon=False, fontsize=8, labelcolor=INK, ncols=columns
        )


def text(figure: Any, name: str) -> str:
    """Returns a figure as an <svg> element.

    Args:
      figure: a figure of `new`.
      name: a name that no other picture of the page has. It makes the ids inside the
        picture unique and reproducible.
    """
    import matplotlib

    out = io.StringIO()
    # Texts stay texts, which are small and can be searched and copied.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has other fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    # Every picture has these ids, and nothing refers to them.
    text = re.sub('<g id="[^"]*"', "<g", out.getvalue())
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # A page sets the colours that its background needs: --c0, --c1, ...
    for i, colour in enumerate(map(str.lower, _figure.COLOURS)):
        text = text.replace(colour, f"var(--c{i}, {colour})")
    return text
