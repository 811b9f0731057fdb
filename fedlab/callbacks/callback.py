"""What a callback is, and what it sees of a round."""

import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
"""A round's metrics, name -> number."""


class Callback:
    """Code that runs during a simulation, for `callbacks=[...]` of `fedlab.simulate`.

    Subclass it and override the methods you need. A plain function `(round) -> None` is
    also a callback; it is called after each round.

    A round is written to the run folder after its callbacks have returned, together
    with their `state()`. If a run is interrupted before that, the round runs again, and
    its callbacks are called again with the same numbers. So the state has seen every
    round exactly once, and the resumed run gives bit-identical results.

    One object can serve several runs: reset it in `on_run_begin`. A resumed run calls
    `restore` after `on_run_begin`.

    Attributes:
      settings: name -> value, the callback's arguments. A run folder records the names
        and settings of its callbacks, and a resumed run needs the same ones.

    Example:
      >>> class StopAtBudget(Callback):
      ...     def __init__(self, num_bytes):
      ...         self.settings = {"num_bytes": num_bytes}
      ...
      ...     def on_run_begin(self, history):
      ...         self.sent = 0
      ...
      ...     def on_round_end(self, round):
      ...         self.sent += round.metrics.get("bytes_up", 0)
      ...         if self.sent >= self.settings["num_bytes"]:
      ...             round.stop(f"{self.sent} bytes were sent")
      ...
      ...     def state(self):
      ...         return {"sent": self.sent}
      ...
      ...     def restore(self, state):
      ...         self.sent = state["sent"]
    """

    settings: Mapping[str, Any] = types.MappingProxyType({})

    @property
    def name(self) -> str:
        """The callback's name in the run folder: the name of its class."""
        return type(self).__name__

    def on_settings(self, settings: Mapping[str, Any], path: pathlib.Path | None) -> None:
        """Called once per call of `simulate`, before `on_run_begin`.

        Args:
          settings: the settings of the run as JSON values, the contents of config.json;
            see `Run.settings`.
          path: the run folder, or None.
        """

    def on_run_begin(self, history: Sequence[Row]) -> None:
        """Called once per call of `simulate`, before its first round.

        Args:
          history: the rows of earlier rounds, if the run is resumed; as `Run.history`.
        """

    def on_round_end(self, round: "Round") -> None:
        """Called after each round of training, and after round 0, the evaluation before it."""

    def on_run_end(self, run: Any) -> None:
        """Called with the `Run` when it has finished or stopped, but not after an exception."""

    def state(self) -> dict[str, Any]:
        """What the callback needs to resume after an interruption.

        Returns:
          A dict: name -> a number, a text, an array, or a list of arrays. None is not
          allowed: leave the name out.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned after the last round that was written."""


class Round:
    """What a callback sees of a round.

    Attributes:
      round_num: 0 for the evaluation before training, then 1, 2, ...
      metrics: name -> number, read-only: the round's row of `Run.history`.
      metric_names: the names of all metrics of this run, also those that this round
        lacks, such as `train_loss` in round 0.
      clients: the round's rows of `Run.clients`.
      evaluations: the round's rows of `Run.evaluations`.
      stop_reason: why a callback stops the run after this round, or None.
    """

    def __init__(
        self,
        round_num: int,
        metrics: Row,
        metric_names: Sequence[str],
        clients: Any,
        evaluations: Any,
        weights: Callable[[], tuple[list, list]],
        model: Callable[[], Any],
    ):
        self.round_num = round_num
        self.metrics = types.MappingProxyType(metrics)
        self.clients = clients
        self.evaluations = evaluations
        self.metric_names = metric_names
        self.stop_reason: str | None = None
        self._weights, self._model = weights, model

    @property
    def weights(self) -> tuple[list, list]:
        """The global weights, two lists of NumPy arrays.

        In the order of Keras's `trainable_weights` and `non_trainable_weights`.
        """
        return self._weights()

    @property
    def model(self) -> Any:
        """A compiled Keras model with the global weights.

        You may evaluate, save or train it: it is a copy. The next callback and the next
        round get the same object with new weights.
        """
        return self._model()

    def stop(self, reason: str) -> None:
        """Ends the run after this round.

        Args:
          reason: a text, which becomes `Run.stopped`. If several callbacks stop the
            run, the first one's reason counts.
        """
        if not isinstance(reason, str) or not reason:
            raise ValueError(
                f"stop(reason={reason!r:.60}): expected a text that says why the run stops"
            )
        self.stop_reason = self.stop_reason or reason
