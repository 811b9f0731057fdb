"""Keeps the weights of the best round."""

from collections.abc import Sequence
from typing import Any

from fedlab.callbacks._monitor import Monitor, MonitoringCallback
from fedlab.callbacks.callback import Round, Row


class BestModel(MonitoringCallback):
    """Keeps the global model of the round in which a metric was best.

    It becomes `Run.best`, and best.keras in the run folder. Round 0, the evaluation
    before training, counts. Of equal values, the first is kept. The weights are part of
    every checkpoint, which grows by the size of the model.

    Args:
      monitor: a column of `Run.history`, such as "test_loss". Only rounds in which it
        was measured count; see `evaluate_every`.
      mode: "min", "max", or "auto" (default): by the metric's name, "min" for losses
        and errors.

    Attributes:
      best, best_round: the best value so far and its round, or None.
      weights: the global weights of that round, as `Round.weights`, or None.

    Raises:
      ValueError: a setting is out of range; or, in round 0, the run has no such metric.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model, keep = fl.models.char_rnn(units=8, embedding_dim=4), BestModel("test_loss")
      >>> options = {"evaluate_on": test, "callbacks": [keep], "progress": False}
      >>> run = fl.simulate(model, train, rounds=2, clients_per_round=2, **options)
      >>> keep.best == min(row["test_loss"] for row in run.history)
      True
    """

    def __init__(self, monitor: str, *, mode: str = "auto"):
        self._monitor = Monitor(monitor, mode, 0.0)
        self.settings = {"monitor": monitor, "mode": mode}
        self.weights: Any = None

    def on_run_begin(self, history: Sequence[Row]) -> None:
        """See `Callback`."""
        self.weights = None
        self._monitor.reset()

    def on_round_end(self, round: Round) -> None:
        """See `Callback`."""
        value = self._monitor.value(round)
        if value is not None and self._monitor.update(round, value):
            self.weights = round.weights

    def state(self) -> dict[str, Any]:
        """See `Callback`."""
        if self.weights is None:
            return {}
        trainable, non_trainable = self.weights
        return {**self._monitor.state(), "trainable": trainable, "non_trainable": non_trainable}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Callback`."""
        self._monitor.restore(state)
        if "trainable" in state:
            self.weights = state["trainable"], state["non_trainable"]
