"""Stops a run whose metric has stopped improving."""

import math

from fedlab import _checks
from fedlab.callbacks._monitor import Monitor, MonitoringCallback


class EarlyStopping(MonitoringCallback):
    """Stops the run when a metric has not improved for some time, as `tf.keras.callbacks.EarlyStopping` does.

        wait = 0 if the metric is better than its best by more than min_delta (and than the baseline), else wait + 1
        stop if the metric is not better and wait >= patience

    Keras counts epochs; this counts rounds in which the metric was measured, and round 0, the evaluation before training, sets the first
    best value. `Run.stopped` says why the run ended, and `Run.model` holds the weights of its last round; add `BestModel` for those of the
    best one.

    Args:
      monitor: a column of `Run.history`, such as "test_loss".
      patience: measurements without an improvement after which the run stops, 0 or more. 0 and 1 both stop at the first.
      min_delta: a change of at most this much is no improvement, 0 or more.
      mode: "min", "max", or "auto" (default): by the metric's name, less is better for losses and errors.
      baseline: a value that the metric has to be better than for `wait` to start again at 0, or None.
      start_from_round: rounds before this one are not watched, 0 or more.

    Raises:
      ValueError: a setting is out of range; or, in round 0, the run has no such metric.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> stopper = EarlyStopping("test_loss", min_delta=100.0)
      >>> run = fl.simulate(model, train, rounds=9, clients_per_round=2, evaluate_on=test, callbacks=[stopper], progress=False)
      >>> len(run.history), run.stopped.partition(":")[0]
      (2, 'EarlyStopping')
    """

    def __init__(
        self, monitor, *, patience=0, min_delta=0.0, mode="auto", baseline=None, start_from_round=0
    ):
        self._monitor = Monitor(monitor, mode, min_delta)
        for name, value in (("patience", patience), ("start_from_round", start_from_round)):
            _checks.check_int(name, value, 0)
        if baseline is not None and not (_checks.is_number(baseline) and math.isfinite(baseline)):
            raise ValueError(f"baseline={baseline!r:.60}: expected a number, or None.")
        self.settings = {
            "monitor": monitor,
            "patience": int(patience),
            "min_delta": float(min_delta),
            "mode": mode,
            "baseline": baseline,
            "start_from_round": int(start_from_round),
        }
        self.wait = 0

    def on_run_begin(self, history):
        self.wait = 0
        self._monitor.reset()

    def on_round_end(self, round):
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
                f"EarlyStopping: {self._monitor.name} is {value:.6g} in round {round.round_num}; {best}"
            )

    def state(self):
        return {"wait": self.wait, **self._monitor.state()}

    def restore(self, state):
        self.wait = state["wait"]
        self._monitor.restore(state)
