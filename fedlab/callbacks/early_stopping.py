"""Stops a run whose metric has stopped improving."""

from collections.abc import Sequence
from typing import Any

from fedlab import _checks
from fedlab.callbacks._monitor import Monitor, MonitoringCallback
from fedlab.callbacks.callback import Round, Row


class EarlyStopping(MonitoringCallback):
    """Stops the run when a metric has stopped improving, as `tf.keras.callbacks.EarlyStopping`.

    ```
    better = the metric is better than its best by more than min_delta
    wait = 0 if better (and better than the baseline) else wait + 1
    stop if not better and wait >= patience
    ```

    Keras counts epochs. This counts rounds in which the metric was measured, and round
    0, the evaluation before training, sets the first best value. `Run.stopped` says why
    the run ended. `Run.model` has the weights of the last round; add `BestModel` to
    keep those of the best one. NaN is never the best value; in Keras 3 the first value
    is the best, whatever it is.

    Args:
      monitor: a column of `Run.history`, such as "test_loss".
      patience: the run stops after this number of measurements without an improvement,
        0 or more. 0 and 1 both stop at the first.
      min_delta: a change of at most this much is not an improvement, 0 or more.
      mode: "min", "max", or "auto" (default): by the metric's name, "min" for losses
        and errors.
      baseline: `wait` only returns to 0 if the metric is better than this value, or
        None.
      start_from_round: rounds before this one are ignored, 0 or more.

    Raises:
      ValueError: a setting is out of range; or, in round 0, the run has no such metric.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> stopper = EarlyStopping("test_loss", min_delta=100.0)
      >>> options = {"evaluate_on": test, "callbacks": [stopper], "progress": False}
      >>> run = fl.simulate(model, train, rounds=9, clients_per_round=2, **options)
      >>> len(run.history), run.stopped.partition(":")[0]
      (2, 'EarlyStopping')
    """

    def __init__(
        self,
        monitor: str,
        *,
        patience: int = 0,
        min_delta: float = 0.0,
        mode: str = "auto",
        baseline: float | None = None,
        start_from_round: int = 0,
    ):
        self._monitor = Monitor(monitor, mode, min_delta)
        for name, value in (("patience", patience), ("start_from_round", start_from_round)):
            _checks.check_int(name, value, 0)
        if baseline is not None:
            _checks.check_number("baseline", baseline, what="or None")
        self.settings = {
            "monitor": monitor,
            "patience": int(patience),
            "min_delta": float(min_delta),
            "mode": mode,
            "baseline": baseline,
            "start_from_round": int(start_from_round),
        }
        self.wait = 0

    def on_run_begin(self, history: Sequence[Row]) -> None:
        """See `Callback`."""
        self.wait = 0
        self._monitor.reset()

    def on_round_end(self, round: Round) -> None:
        """See `Callback`."""
        value = self._monitor.value(round)
        if value is None or round.round_num < self.settings["start_from_round"]:
            return
        self.wait += 1
        if self._monitor.update(round, value):
            baseline = self.settings["baseline"]
            if baseline is None or self._monitor.better(value, baseline):
                self.wait = 0
        elif self.wait >= self.settings["patience"] and round.round_num > 0:
            best = (
                "it was never a number"
                if self.best is None
                else f"its best is {self.best:.6g} in round {self.best_round}"
            )
            round.stop(
                f"EarlyStopping: {self._monitor.name} is {value:.6g} in round {round.round_num}; "
                f"{best}"
            )

    def state(self) -> dict[str, Any]:
        """See `Callback`."""
        return {"wait": self.wait, **self._monitor.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Callback`."""
        self.wait = state["wait"]
        self._monitor.restore(state)
