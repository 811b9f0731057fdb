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
      mode: "min", "max", or "auto": by the metric's name, "min" for losses and errors.
      min_delta: a value is better if it is better by more than this, 0 or more.

    Attributes:
      best, best_round: the best value and its round, or None.
    """

    def __init__(self, name, mode, min_delta):
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"monitor={name!r:.60}: expected the name of a metric, such as 'test_loss'"
            )
        if mode not in MODES:
            expected = f"one of {', '.join(map(repr, MODES))}"
            raise _checks.value_error("mode", mode, expected)
        self.name = name
        self._min_delta = _checks.check_number("min_delta", min_delta, 0)
        self._sign = -1 if (lower_is_better(name) if mode == "auto" else mode == "min") else 1
        self.reset()

    def reset(self):
        self.best = self.best_round = None

    def value(self, round):
        """The metric in this round, or None if it was not measured.

        Raises:
          ValueError: the run has no such metric. It is raised in round 0, before
          training.
        """
        if round.round_num == 0 and self.name not in (names := round.metric_names):
            raise ValueError(
                f"monitor={self.name!r}: expected a metric of this run: {', '.join(names)}"
            )
        return round.metrics.get(self.name)

    def better(self, value, than):
        """Whether a value is better than another by more than `min_delta`; NaN is not."""
        return self._sign * (value - self._sign * self._min_delta) > self._sign * than

    def update(self, round, value):
        """Returns whether the value is the best so far, and stores it if so. NaN never is."""
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
