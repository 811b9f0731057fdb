"""Numbers of learning curves, as papers define them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.papers.study import Records


def settings(records: Records) -> Mapping[str, Any]:
    """Returns the settings that the records of a scale have in common."""
    return next(iter(records.values()))[0]["settings"]


def curve(record: Mapping[str, Any], column: str) -> tuple[list[int], list[float]]:
    """Returns (rounds, values) of a column of a record, where it has values."""
    i = record["columns"].index(column)
    pairs = [(row[0], row[i]) for row in record["rows"] if row[i] is not None]
    return [round_num for round_num, _ in pairs], [value for _, value in pairs]


def last(record: Mapping[str, Any], column: str) -> float:
    """Returns the last value of a column."""
    return curve(record, column)[1][-1]


def of_last(record: Mapping[str, Any], column: str, rounds: int) -> list[float]:
    """Returns the values of the evaluations of the last `rounds` rounds."""
    numbers, values = curve(record, column)
    return [value for number, value in zip(numbers, values) if number > numbers[-1] - rounds]


def mean_of_last(record: Mapping[str, Any], column: str, rounds: int) -> float:
    """Returns the mean over the evaluations of the last `rounds` rounds."""
    return statistics.fmean(of_last(record, column, rounds))


def rounds_to(record: Mapping[str, Any], column: str, target: float) -> float:
    """Returns the round in which a curve reaches the target, or infinity.

    As McMahan et al. 2017, section 3: the curve is made monotone by taking the best value
    so far, and the crossing is interpolated linearly between evaluations.

    Example:
      >>> rounds_to({"columns": ["round", "a"], "rows": [[0, 0.1], [10, 0.5]]}, "a", 0.3)
      5.0
    """
    numbers, values = curve(record, column)
    best = -math.inf
    for i, (number, value) in enumerate(zip(numbers, values)):
        if value >= target:
            if i == 0:
                return float(number)
            return numbers[i - 1] + (number - numbers[i - 1]) * (target - best) / (value - best)
        best = max(best, value)
    return math.inf


def percent(values: Sequence[float]) -> list[float]:
    """Returns shares as percentages."""
    return [100 * value for value in values]


def plot(
    axis: Any,
    seeds: Sequence[Mapping[str, Any]],
    column: str,
    *,
    label: str,
    scale: float = 1,
    skip: int = 0,
    alphas: tuple[float, float] = (0.8, 0.8),
    **style: Any,
) -> None:
    """Draws a column by round, a line per seed.

    Args:
      axis: of matplotlib.
      seeds: the records of a case.
      column: its name.
      label: what the legend says of the first line.
      scale: what values are multiplied by, such as 100 for percentages.
      skip: how many evaluations are left out at the start.
      alphas: of the first line, and of the others.
      **style: of the lines.
    """
    for i, record in enumerate(seeds):
        numbers, values = curve(record, column)
        axis.plot(
            numbers[skip:],
            [scale * value for value in values[skip:]],
            label=None if i else label,
            alpha=alphas[min(i, 1)],
            **style,
        )
