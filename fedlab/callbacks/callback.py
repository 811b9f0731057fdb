"""What a callback is, and what it sees of a round."""

import types


class Callback:
    """Code that runs during a simulation: pass instances as `callbacks=[...]` to `fedlab.simulate`.

    Subclass it and override what you need. A plain function `(round) -> None` is also a callback: it is called after each round.

        on_run_begin(history)       once per call of `simulate`; `history` holds the rows of the rounds done by an earlier start
        on_round_end(round)         after round 0, which is the evaluation before training, and after each round of training
        on_run_end(run)             at the end of a finished or stopped run; not if it ends with an exception

    A round is written to the run folder after its callbacks have returned, together with their `state()`. So every round that the run
    keeps was seen exactly once by the callback's state, and an interrupted run resumes with bit-identical results. A round that was
    interrupted before it was written runs again, and its callbacks are called again with the same numbers.

    One object can serve several runs: reset it in `on_run_begin`. A resumed run calls `restore` after `on_run_begin`.

    Attributes:
      settings: name -> value, what the callback was made with. A run folder records the names and settings of its callbacks, and a resumed
        run needs the same ones.

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

    settings = types.MappingProxyType({})

    @property
    def name(self):
        """What the run folder calls it: the name of its class."""
        return type(self).__name__

    def on_run_begin(self, history):
        """Called before the first round of this call of `simulate`. `history`: rows of earlier rounds, as in `Run.history`."""

    def on_round_end(self, round):
        """Called after a round with a `Round`."""

    def on_run_end(self, run):
        """Called at the end with the `Run`."""

    def state(self):
        """What the callback has to know to continue after an interruption.

        Returns:
          A dict: name -> a number, a text, an array, or a list of arrays. A value of None is not allowed: leave the name out.
        """
        return {}

    def restore(self, state):
        """Takes back what `state` returned after the last round that was written."""


class Round:
    """What a callback sees of a round.

    Attributes:
      round_num: 0 for the evaluation before training, then 1, 2, ...
      metrics: name -> number, read-only: the round's row of `Run.history`.
      metric_names: the columns that are metrics of this run, also those that this round lacks, such as `train_loss` in round 0.
      clients: the round's rows of `Run.clients`.
      evaluations: the round's rows of `Run.evaluations`.
      weights: the global weights as NumPy arrays: a list in the order of Keras's `model.trainable_weights`, and one in that of
        `model.non_trainable_weights`.
      model: a compiled Keras model that holds the global weights. Evaluate it, save it or train it as you like: it is a copy, made when
        first asked for and filled again for the next callback and round.
      stop_reason: why a callback stops the run after this round, or None.
    """

    def __init__(self, round_num, metrics, metric_names, clients, evaluations, weights, model):
        """`weights` and `model` are functions without arguments, called when they are asked for."""
        self.round_num = round_num
        self.metrics = types.MappingProxyType(metrics)
        self.clients = clients
        self.evaluations = evaluations
        self.metric_names = metric_names
        self.stop_reason = None
        self._weights, self._model = weights, model

    @property
    def weights(self):
        return self._weights()

    @property
    def model(self):
        return self._model()

    def stop(self, reason):
        """Ends the run after this round.

        Args:
          reason: a text, which becomes `Run.stopped`. The first callback that stops a round gives the reason.
        """
        if not isinstance(reason, str) or not reason:
            raise ValueError(
                f"stop(reason={reason!r:.60}): expected a text that says why the run stops."
            )
        self.stop_reason = self.stop_reason or reason
