"""What the callbacks for experiment trackers have in common."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fedlab import _checks, _extras
from fedlab.callbacks.callback import Callback, Round, Row
from fedlab.runs.read import run_settings

ARTIFACTS = ("report.html", "model.keras", "best.keras", "config.json", "metrics.csv")
"""Files of a run folder that a tracker stores."""


class Tracker(Callback):
    """A callback that sends settings, metrics and files to an experiment tracker.

    A subclass implements `_begin`, `_log` and `_finish`. The id of the tracker's run is
    part of every checkpoint, so that a resumed simulation continues the same run.
    """

    def __init__(self, artifacts: bool, run_name: str | None):
        if not isinstance(artifacts, bool):
            raise _checks.type_error("artifacts", artifacts, "True or False")
        check_text("run_name", run_name, none=True)
        self._artifacts, self._given_name = artifacts, run_name
        self._parameters: dict[str, str] = {}
        self._run_dir: pathlib.Path | None = None
        self._run_id: str | None = None
        self._begun = False

    @property
    def run_id(self) -> str | None:
        """The id of the tracker's run, or None before round 0."""
        return self._run_id

    @property
    def _run_name(self) -> str | None:
        """The name of the tracker's run: the given one, or that of the run folder."""
        if self._given_name or self._run_dir is None:
            return self._given_name
        return self._run_dir.absolute().name

    def on_settings(self, settings: Mapping[str, Any], path: pathlib.Path | None) -> None:
        """See `Callback`."""
        if self._artifacts and path is None:
            raise ValueError(
                f"{self.name}(artifacts=True): expected a simulation with run_dir, which has the "
                "files to store; pass run_dir or artifacts=False"
            )
        named = {name: _shown(value) for name, value in run_settings.flat(settings).items()}
        rounds = {"rounds": str(settings["rounds"])} if "rounds" in settings else {}
        self._parameters = {**named, **rounds}
        self._run_dir = path

    def on_run_begin(self, history: Sequence[Row]) -> None:
        """See `Callback`."""
        self._run_id, self._begun = None, False

    def on_round_end(self, round: Round) -> None:
        """See `Callback`."""
        self._ensure_begun()
        self._log(numbers(round.metrics), round.round_num)

    def on_run_end(self, run: Any) -> None:
        """See `Callback`."""
        self._ensure_begun()
        files = [] if self._run_dir is None or not self._artifacts else self._files(self._run_dir)
        self._finish(files, run.stopped)

    def state(self) -> dict[str, Any]:
        """See `Callback`."""
        return {} if self._run_id is None else {"run_id": self._run_id}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Callback`."""
        self._run_id = state.get("run_id")

    def _ensure_begun(self) -> None:
        if not self._begun:
            self._run_id = self._begin(self._run_id)
            self._begun = True

    def _files(self, path: pathlib.Path) -> list[pathlib.Path]:
        return [path / name for name in ARTIFACTS if (path / name).is_file()]

    def _begin(self, run_id: str | None) -> str:
        """Starts a run of the tracker, or continues the one with this id. Returns the id."""
        raise NotImplementedError

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        raise NotImplementedError

    def _finish(self, files: Sequence[pathlib.Path], stopped: str | None) -> None:
        raise NotImplementedError


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns a round's metrics as floats, without those that are unknown.

    Example:
      >>> numbers({"round": 2, "test_loss": 0.5, "train_loss": None, "examples": 12})
      {'test_loss': 0.5, 'examples': 12.0}
    """
    return {
        name: float(value)
        for name, value in metrics.items()
        if name != "round" and _checks.is_number(value)
    }


def require(package: str, what: str) -> None:
    """Raises ModuleNotFoundError, with the extra to install, if a package is missing."""
    if _extras.missing(package):
        raise _extras.error(f"{what} needs", package)


def check_text(name: str, value: Any, none: bool = False) -> None:
    """Raises TypeError or ValueError for anything but a text that is not empty (or None)."""
    if none and value is None:
        return
    expected = f"a text{' or None' if none else ''}"
    if not isinstance(value, str):
        raise _checks.type_error(name, value, expected)
    if not value.strip():
        raise _checks.value_error(name, value, f"{expected} that is not empty")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
