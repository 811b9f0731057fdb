"""What all pictures share."""

import io
import warnings

from fedlab import _extras, _files
from fedlab._text import visible

# The Okabe-Ito palette, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#999999")


def new(width, height):
    """Returns an empty figure of a size in inches.

    It does not use pyplot, which would choose a backend for the whole process.

    Raises:
      ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure
    except ModuleNotFoundError:
        raise _extras.error("plots need", "matplotlib") from None
    return matplotlib.figure.Figure(figsize=(width, height), dpi=150, layout="constrained")


def plain(text):
    """Escapes a text for matplotlib: dollar signs start formulas, and control characters fail."""
    return visible(text).replace("$", r"\$")


def shortened(text, length):
    """The beginning of a text, in one line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def save(figure, file):
    """Writes the figure as PNG, whole or not at all."""
    packed = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from"
        )  # a box is drawn for a character that the font lacks
        figure.savefig(packed, format="png")
    _files.write(file, packed.getbuffer())
