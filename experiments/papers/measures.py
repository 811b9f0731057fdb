"""Numbers of learning curves, as papers define them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def curve(record: Mapping[str, Any], column: str) -> tuple[list[int], list[float]]:
    """Returns (rounds, values) of a column of a record, where it has values."""
    i = record["columns"].index(column)
    pairs = [(row[0], row[i]) for row in record["rows"] if row[i] is not None]
    return [round_num for round_num, _ in pairs], [value for _, value in pairs]


def last(record: Mapping[str, Any], column: str) -> float:
    """Returns the last value of a column."""
    return curve(record, column)[1][-1]


def mean_of_last(record: Mapping[str, Any], column: str, rounds: int) -> float:
    """Returns the mean over the evaluations of the last `rounds` rounds."""
    numbers, values = curve(record, column)
    return statistics.fmean(
        value for number, value in zip(numbers, values) if number > numbers[-1] - rounds
    )


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
