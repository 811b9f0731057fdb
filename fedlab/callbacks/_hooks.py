"""A run's callbacks, and what they keep in its checkpoints."""

import numpy as np

from fedlab import _checks
from fedlab.callbacks import BestModel, Callback


class _Function(Callback):
    """A plain function as a callback."""

    def __init__(self, function):
        self.on_round_end = function

    @property
    def name(self):
        return getattr(self.on_round_end, "__qualname__", type(self.on_round_end).__qualname__)


def _checked(callbacks):
    """Returns the callbacks as a tuple.

    Raises:
      TypeError, ValueError: `callbacks` is not a list of callbacks.
    """
    if callbacks is None:
        return ()
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(
            f"callbacks={callbacks!r:.60}: expected a list, such as "
            "[fedlab.callbacks.EarlyStopping('test_loss')]"
        )
    for i, callback in enumerate(callbacks):
        if isinstance(callback, type):
            raise TypeError(
                f"callbacks[{i}] is the class {callback.__name__}: expected an instance, "
                f"{callback.__name__}(...)"
            )
        if not isinstance(callback, Callback) and not callable(callback):
            raise TypeError(
                f"callbacks[{i}] is {_checks.kind(callback)}: expected a "
                "fedlab.callbacks.Callback, or a function (round)"
            )
    if sum(isinstance(callback, BestModel) for callback in callbacks) > 1:
        raise ValueError(
            "callbacks has several BestModel: expected at most one, whose model becomes Run.best"
        )
    return tuple(callbacks)


class Hooks:
    """Calls a run's callbacks.

    Args:
      callbacks: as in `fedlab.simulate`.

    Attributes:
      stopped: why a callback has stopped the run, or None.
    """

    def __init__(self, callbacks):
        self._callbacks = [
            callback if isinstance(callback, Callback) else _Function(callback)
            for callback in _checked(callbacks)
        ]
        self.stopped = None

    def __bool__(self):
        return bool(self._callbacks)

    def settings(self):
        """The callbacks' names and settings.

        Not their code: a tracker may hold something that differs in every process, such
        as a connection.
        """
        return [{"name": callback.name, **callback.settings} for callback in self._callbacks]

    def configure(self, settings, path):
        """Tells callbacks the settings of the run, the contents of config.json, and its folder."""
        for callback in self._callbacks:
            callback.on_settings(settings, path)

    def begin(self, history, about, arrays):
        """Starts the run, or resumes it.

        Args:
          history: the rows of earlier rounds.
          about, arrays: what `save` returned after the last round; `about` is None in a
            new run.
        """
        for callback in self._callbacks:
            callback.on_run_begin(history)
        if about is None:
            return
        self.stopped, arrays = about["stopped"], iter(arrays)
        for callback, entries in zip(self._callbacks, about["states"]):
            callback.restore({name: _unpacked(number, arrays) for name, number in entries.items()})

    def end_round(self, round):
        """Calls every callback, also after one has stopped the run."""
        for callback in self._callbacks:
            callback.on_round_end(round)
        self.stopped = round.stop_reason

    def end(self, run):
        for callback in self._callbacks:
            callback.on_run_end(run)

    def best_weights(self):
        """The weights that become `Run.best`, or None."""
        return next(
            (callback.weights for callback in self._callbacks if isinstance(callback, BestModel)),
            None,
        )

    def save(self):
        """What a checkpoint stores: (`about`, for JSON; arrays), or None without callbacks."""
        if not self._callbacks:
            return None
        states, arrays = [], []
        for callback in self._callbacks:
            states.append(
                {
                    name: _pack(value, arrays, f"state() of {callback.name} returned {name}")
                    for name, value in callback.state().items()
                }
            )
        return {"stopped": self.stopped, "states": states, "num_arrays": len(arrays)}, arrays


def _pack(value, arrays, what):
    """Appends a value's arrays to `arrays`; returns their number, or None if it is not a list."""
    many = isinstance(value, (list, tuple))
    added = [np.asarray(each) for each in (value if many else [value])]
    if wrong := [
        array for array in added if array.dtype.kind not in "biufcUV" or array.dtype.hasobject
    ]:
        raise TypeError(
            f"{what}={wrong[0]!r:.60}: expected a number, a text, an array, or a list of arrays"
        )
    arrays += added
    return len(added) if many else None


def _unpacked(number, arrays):
    if number is not None:
        return [next(arrays) for _ in range(number)]
    array = next(arrays)
    return array if array.ndim else array.item()
