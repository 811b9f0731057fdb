"""Tables, pictures and processes of the experiments."""

import contextlib
import csv
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# From the Okabe-Ito palette, which people with any colour vision can tell apart.
BLUE, ORANGE, GREEN, PINK, VERMILION, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
)
LIGHT_GREY, GREY, DARK_GREY = "#999999", "#555555", "#333333"


def print_table(
    rows: Iterable[Mapping[str, Any]], names: Sequence[tuple[str, str]], digits: int
) -> None:
    """Prints a learning curve.

    Args:
      rows: dicts like those of `fedlab.Run.history`.
      names: (key, title) of each column. A row may lack a key.
      digits: number of decimals of values that are not integers.
    """
    print("  ".join(f"{title:>10}" for _, title in names))
    for row in rows:
        cells = [row.get(key) for key, _ in names]
        texts = [
            "" if cell is None else str(cell) if isinstance(cell, int) else f"{cell:.{digits}f}"
            for cell in cells
        ]
        print("  ".join(f"{text:>10}" for text in texts))


def run_module(module: str, arguments: Sequence[str], log: pathlib.Path) -> None:
    """Runs an experiment in its own process, with its output in the file `log`.

    Raises:
      ValueError: it failed; the message has the last line of its output.
    """
    root = pathlib.Path(__file__).resolve().parents[1]
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=root, stdout=file, stderr=file
        ).returncode
    if code:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise ValueError(f"{module}: exit code {code}; {log} ends with: {' '.join(last)}")


def read_table(path: str | pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file with a header."""
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


@contextlib.contextmanager
def picture(
    file: str | pathlib.Path,
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    dpi: int = 100,
    **options: Any,
) -> Iterator[tuple[Any, Any]]:
    """Writes what the body of a `with` statement draws as a PNG file.

    Args:
      file: the file to write.
      width, height: size in inches.
      rows, columns: the grid of axes.
      dpi: pixels per inch.
      **options: of matplotlib's `Figure.subplots`, such as sharey=True.

    Yields:
      (figure, axes), axes an array of shape [rows, columns].
    """
    import matplotlib

    from fedlab import _figure

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = _figure.new(width, height)
        figure.set_dpi(dpi)
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)
        _figure.save(figure, file)
