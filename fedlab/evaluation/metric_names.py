"""The columns of metrics.csv, and whether larger or smaller values are better.

{part}_{metric}                part: "train" or a key of evaluate_on; metric: Keras's
name {part}_{metric}_{statistic}    over clients, if each is evaluated by itself
{part}_personal_{metric}       with each client's personalized model
{part}_{metric}_gain           the improvement by personalization
"""

from collections.abc import Iterable
from typing import Any

STATISTICS = ("unweighted", "p10", "p50", "p90", "worst_decile")
"""Statistics of a metric over clients, in addition to its mean weighted by examples."""

_LOWER = {"loss", "error", "perplexity", "mse", "mae", "rmse", "mape", "msle"}


def lower_is_better(name: str) -> bool:
    """Returns whether smaller values of a metric are better: only for losses and errors.

    Example:
      >>> [lower_is_better(name) for name in ("other_loss", "mean_squared_error", "test_f1")]
      [True, True, False]
    """
    return not _LOWER.isdisjoint(name.lower().split("_"))


def best(values: Iterable[float | None], name: str) -> Any:
    """Returns the best value of the metric `name`. NaN and None are ignored.

    Example:
      >>> best([0.5, float("nan"), 0.25, None], "test_loss"), best([], "test_loss")
      (0.25, None)
    """
    numbers = [value for value in values if value is not None and value == value]
    return (min if lower_is_better(name) else max)(numbers, default=None)


def by_importance(names: Iterable[str]) -> list[str]:
    """Returns metrics by importance: scores of evaluations, their losses, training metrics.

    Of the training metrics, the loss comes first.

    Example:
      >>> by_importance(["train_accuracy", "train_loss", "test_loss", "test_accuracy"])
      ['test_accuracy', 'test_loss', 'train_loss', 'train_accuracy']
    """

    def place(name: str) -> tuple[bool, bool]:
        trained = name.startswith("train_")
        return trained, lower_is_better(name) != trained

    return sorted(names, key=place)
