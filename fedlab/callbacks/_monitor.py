"""A metric that a callback watches, and its best value so far."""

import math

from fedlab import _checks
from fedlab.callbacks.callback import Callback
from fedlab.evaluation.metric_names import lower_is_better

MODES = ("auto", "min", "max")


class Monitor:
    """The best value of a metric.

    Args:
      name: a column of `Run.history`, such as "test_loss".
      mode: "min", "max", or "auto": by the metric's name, less is better for losses and errors.
      min_delta: a value is better if it is better by more than this, 0 or more.

    Attributes:
      best, best_round: the best value and its round, or None.
    """

    def __init__(self, name, mode, min_delta):
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"monitor={name!r:.60}: expected the name of a metric, such as 'test_loss'."
            )
        if mode not in MODES:
            raise ValueError(f"mode={mode!r:.60}: expected one of {', '.join(map(repr, MODES))}.")
        if not _checks.is_number(min_delta) or not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta={min_delta!r:.60}: expected a number of 0 or more.")
        self.name, self._min_delta = name, float(min_delta)
        self._sign = -1 if (lower_is_better(name) if mode == "auto" else mode == "min") else 1
        self.reset()

    def reset(self):
        self.best = self.best_round = None

    def value(self, round):
        """The metric in this round, or None if it was not measured.

        Raises:
          ValueError: the run has no such metric. It is raised in round 0, before the first round of training.
        """
        if round.round_num == 0 and self.name not in (names := round.metric_names):
            raise ValueError(
                f"monitor={self.name!r}: expected a metric of this run: {', '.join(names)}."
            )
        return round.metrics.get(self.name)

    def better(self, value, than):
        """Whether a value is better than another by more than `min_delta`; NaN is not."""
        return self._sign * (value - self._sign * self._min_delta) > self._sign * than

    def update(self, round, value):
        """Whether the value is the best so far, which is then kept. The first number is; NaN is not."""
        worst = -self._sign * math.inf
        if not self.better(value, worst if self.best is None else self.best):
            return False
        self.best, self.best_round = value, round.round_num
        return True

    def state(self):
        return {} if self.best is None else {"best": self.best, "best_round": self.best_round}

    def restore(self, state):
        self.best, self.best_round = state.get("best"), state.get("best_round")


class MonitoringCallback(Callback):
    """A callback that watches a metric with the `Monitor` in its attribute `_monitor`."""

    @property
    def best(self):
        """The best value so far, or None."""
        return self._monitor.best

    @property
    def best_round(self):
        """The round of the best value, or None."""
        return self._monitor.best_round
