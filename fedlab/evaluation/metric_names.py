"""What the columns of metrics.csv are called, and which way they are better.

{part}_{metric}                      part: "train", or what evaluate_on calls a set; metric: Keras's name
{part}_{metric}_{statistic}          over clients, where each is evaluated by itself
{part}_personal_{metric}             with the model that each client has made its own
{part}_{metric}_gain                 by how much that is better
"""

STATISTICS = ("unweighted", "p10", "p50", "p90", "worst_decile")
"""What is said of a metric over clients beside its mean, in which clients count by their examples."""

_LOWER = {"loss", "error", "perplexity", "mse", "mae", "rmse", "mape", "msle"}


def lower_is_better(name):
    """Whether less of a metric is better: of losses and errors. Of accuracies, scores and all else, more is.

    Example:
      >>> lower_is_better("other_loss"), lower_is_better("mean_squared_error"), lower_is_better("test_f1")
      (True, True, False)
    """
    return not _LOWER.isdisjoint(name.lower().split("_"))


def best(values, name):
    """The best of some numbers by the metric's name, those that are not numbers left out; None where there is none."""
    values = [value for value in values if value is not None and value == value]
    return (min if lower_is_better(name) else max)(values, default=None)
