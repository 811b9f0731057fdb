"""Plot of an explanation: the text with its important words coloured, and their weights."""

import os
import re
import textwrap
from typing import TYPE_CHECKING

from fedlab import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedlab.tasks.question_answering.explanation import Explanation

_WIDTH = 100  # characters per line
_FOR, _AGAINST = "#0072B2", "#D55E00"


def draw(explanation: "Explanation", file: str | os.PathLike) -> None:
    """Draws a `fedlab.tasks.question_answering.explanation.Explanation` as a PNG file.

    Raises:
      ModuleNotFoundError: matplotlib is not installed.
    """
    _figure.save(figure(explanation), file)


def figure(explanation: "Explanation") -> "Figure":
    """Draws the text, with words for the label in blue and against it in orange, and weights."""
    lines = [
        line for part, text in explanation.parts.items() for line in _lines(explanation, part, text)
    ]
    words = explanation.words
    text_height, bar_height = 0.3 + 0.2 * len(lines), 0.8 + 0.22 * len(words)
    figure = _figure.new(9, 0.5 + text_height + bar_height)
    above, below = figure.subplots(2, 1, height_ratios=[text_height, bar_height])
    most = max((abs(word.weight) for word in words), default=0) or 1
    above.set(xlim=(0, _WIDTH), ylim=(len(lines), 0))
    above.set_axis_off()
    for y, pieces in enumerate(lines):
        for x, piece, weight in pieces:
            # Every character has the same width in any font, so the colours are aligned.
            if weight:
                colour = _FOR if weight > 0 else _AGAINST
                above.axvspan(
                    x - 0.2,
                    x + len(piece) + 0.2,
                    1 - (y + 0.95) / len(lines),
                    1 - (y + 0.05) / len(lines),
                    color=colour,
                    alpha=0.15 + 0.55 * abs(weight) / most,
                    linewidth=0,
                )
            for i, character in enumerate(piece):
                if not character.isspace():
                    above.text(
                        x + i + 0.5,
                        y + 0.5,
                        _figure.plain(character),
                        ha="center",
                        va="center",
                        fontsize=9,
                        family="monospace",
                    )
    names = [f"{_figure.plain(word.text)}  ({word.part}, {word.start})" for word in words]
    below.barh(
        range(len(words)),
        [word.weight for word in words],
        color=[_FOR if word.weight > 0 else _AGAINST for word in words],
    )
    below.set_yticks(range(len(words)), names, fontsize=8)
    below.invert_yaxis()
    below.axvline(0, color="black", linewidth=0.8)
    below.set_xlabel(f"weight in the probability (linear model, R² {explanation.fit:.2f})")
    below.spines[["top", "right", "left"]].set_visible(False)
    below.tick_params(axis="y", length=0)
    label = _figure.shortened(explanation.label, 60)
    title = (
        f"Words for (blue) and against (orange) {label!r}, "
        f"probability {explanation.probability:.3f}"
    )
    figure.suptitle(_figure.plain(title), fontsize=10)
    return figure


def _lines(explanation, part, text):
    """A part in lines of at most `_WIDTH` characters: lists of (column, piece, weight or 0)."""
    weights = {
        word.start: (len(word.text), word.weight) for word in explanation.words if word.part == part
    }
    lines, place = [], 0
    prefix = "" if part == "text" else f"{part}: "
    for number, line in enumerate(_wrapped(text, _WIDTH - len(prefix))):
        start = text.index(line, place)
        place = start + len(line)
        pieces = [(0, prefix, 0)] if prefix and not number else []
        for match in re.finditer(r"\w+|\W+", line):
            length, weight = weights.get(start + match.start(), (0, 0))
            pieces.append(
                (
                    len(prefix) + match.start(),
                    match.group(),
                    weight if length == len(match.group()) else 0,
                )
            )
        lines.append(pieces)
    return lines


def _wrapped(text, width):
    paragraphs = (
        textwrap.wrap(line, width, expand_tabs=False, replace_whitespace=False)
        for line in text.splitlines()
    )
    return [line for lines in paragraphs for line in lines]
