"""A run as a folder. After SIGKILL at any moment, the same run resumes with identical bits.

    config.json            settings, versions, commit
    initial.npz            the state that the run started from
    checkpoints/           the state after each of the last two rounds; arrays that have not
                           changed are only in initial.npz
    client_states.sqlite   the states of clients, for algorithms that have them
    clients.sqlite         one row per round, per client, and per client and metric: see
                           `fedlab.runs.format`
    metrics.csv, events/   the rounds as a table and for TensorBoard, from clients.sqlite
    model.keras            the trained model
    best.keras             the model of the best round, if a callback keeps it
    data.json              what a sample of the clients has: see `fedlab.data.describe`
    report.html            a report: see `fedlab.runs.read.report`
    lock                   the process that writes

A round is done when its checkpoint is on disk. Client states and rows are written before
it, each in a transaction. If the process ends in between, they are ahead of the last
checkpoint and are rewound to it. metrics.csv and events/ are written after the checkpoint,
and again when a run resumes.
"""

import contextlib
import csv
import io
import logging
import os
import pathlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from fedlab import _checks
from fedlab._files import explained, published, write
from fedlab.data import description_json
from fedlab.runs.format import MAKE_ROOM, RESTORE
from fedlab.runs.write import config as config_lib
from fedlab.runs.write.checkpoints import Checkpoint, Checkpoints
from fedlab.runs.write.client_states import ClientStates
from fedlab.runs.write.events import Events
from fedlab.runs.write.initial_state import InitialState
from fedlab.runs.write.lock import hold
from fedlab.runs.write.records import Records

logger = logging.getLogger("fedlab")

# What an interrupted first start may leave.
_LEFT_BY_A_START = {"lock", "config.json.tmp"}

Row = Mapping[str, Any]


class RunFolder:
    """What a run keeps: in a folder, or in memory if there is no folder.

    Attributes:
      path: the folder, or None.
      settings: the contents of config.json. Without a folder, it lacks what describes the
        data and the initial weights.
      history: rows of the rounds so far.
      clients, evaluations: rows of these tables so far. They are read from the folder when
        they are used, so that memory does not grow.
      client_states: the states of clients, which belong to the same round as the checkpoint.
      callbacks: what `save` received for the callbacks after the last round; (None, []) in
        a new run or without callbacks.
    """

    def __init__(
        self,
        path: pathlib.Path | None = None,
        lock: Any = None,
        tables: Sequence[Any] = (),
        settings: Mapping[str, Any] | None = None,
    ):
        self.path = path
        self.settings = settings or {}
        self.client_states = ClientStates(path and path / "client_states.sqlite")
        self.history: list[Row] = []
        self.clients, self.evaluations = tables or ([], [])
        self.callbacks: tuple[dict | None, Sequence[Any]] = None, []
        self._stack = contextlib.ExitStack()
        if lock is not None:
            self._stack.callback(lock.release)
        self._stack.callback(self.client_states.close)
        self._checkpoint: Checkpoint | None = None
        self._last_saved: int | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike | None,
        setting: Any,
        more: Mapping[str, Any],
        rounds: int,
        read_tables: Callable[[pathlib.Path], Sequence[Any]],
    ) -> "RunFolder":
        """Opens a new folder, or resumes one that has the same settings.

        Args:
          path: the folder, or None to keep rows in memory.
          setting, more: see `fedlab.runs.write.config.resolve`.
          rounds: the number of rounds, which may have changed.
          read_tables: path -> the rows of the tables `clients` and `evaluations`.

        Raises:
          TypeError: `path` is not a path.
          ValueError: the folder holds a run of other settings or of another format version,
            or something else; another process uses it; or its files are damaged so that the
            run cannot be resumed.
        """
        if path is None:
            return cls(settings=config_lib.resolve(setting, more, with_data=False))
        if not isinstance(path, (str, os.PathLike)):
            raise _checks.type_error("run_dir", path, "the path of a folder or None")
        path, config = pathlib.Path(path), {**config_lib.resolve(setting, more), "rounds": rounds}
        with explained(f"run_dir={path}", "choose another run folder"):
            names = {file.name for file in path.iterdir()} if path.exists() else set()
            if "config.json" not in names and names - _LEFT_BY_A_START:
                raise ValueError(
                    f"{path} is not empty and holds no run: choose a new or empty folder"
                )
            path.mkdir(parents=True, exist_ok=True)
            with _failures_named(path):
                folder = cls(path, hold(path / "lock"), read_tables(path), config)
        try:
            with _failures_named(path):
                config_lib.check_or_write(path, config)
                folder._open_files()
                config_lib.update(path, rounds=rounds, **config_lib.for_people(path, config))
        except BaseException:
            folder.close()
            raise
        return folder

    def _open_files(self) -> None:
        path = self.path
        assert path is not None
        self._initial = InitialState(path / "initial.npz")
        self._checkpoints = Checkpoints(path / "checkpoints")
        self._records = self._stack.enter_context(
            contextlib.closing(Records(path / "clients.sqlite"))
        )
        self._checkpoint = checkpoint = self._checkpoints.last()
        about = checkpoint.about if checkpoint else {"round": -1, "client_states": 0}
        self._last_saved = about["round"] if checkpoint else None
        last = self._records.last_round()
        if checkpoint is None and last:
            raise ValueError(
                f"{self._checkpoints.folder}: expected the checkpoints of a run of {last} rounds, "
                "found none; restore them or start a new run folder"
            )
        self._records.rewind(about["round"])
        if checkpoint and self._records.counts != about["records"]:
            raise ValueError(
                f"{self._records.path} holds the rows {self._records.counts}: expected "
                f"{about['records']}, as in the checkpoint of round {about['round']}; restore the "
                "file that belongs to the run or start a new run folder"
            )
        self.client_states.oldest_checkpoint = min(self._checkpoints.rounds(), default=None)
        self.client_states.rewind(max(0, about["round"]), about["client_states"])
        # `Checkpoints.last` has reported a damaged one.
        if last is not None and last > about["round"] and not self._checkpoints.file(last).exists():
            logger.warning(
                "%s is missing: the run ended before it was written, or it was removed; "
                "its round runs again.",
                self._checkpoints.file(last),
            )
        rounds = self._records.rounds()
        self.history += [row for _, row in rounds]
        self._events = self._stack.enter_context(
            contextlib.closing(Events(path / "events", rounds))
        )
        if checkpoint:
            write(path / "metrics.csv", _csv(self.history))
            logger.info("resuming %s after round %d", path, about["round"])

    def describe(self, description: Callable[[], bytes]) -> None:
        """Writes data.json, unless it is there.

        Args:
          description: returns the contents, the description of the clients.
        """
        if self.path is None or (file := self.path / description_json.FILE).exists():
            return
        with _failures_named(self.path):
            write(file, description())

    def resume(self, initial: Sequence[Any]) -> list[Any] | None:
        """Returns the arrays of the state to continue from, or None without a folder.

        Args:
          initial: the arrays of the state of the model as it was passed.

        Raises:
          ValueError: see `InitialState.resume`.
        """
        if self.path is None:
            return None
        checkpoint, self._checkpoint = self._checkpoint, None
        about = checkpoint.about.get("callbacks") if checkpoint else None
        if checkpoint and about is not None:  # the arrays of the callbacks come last
            num_arrays = len(checkpoint.arrays) - about["num_arrays"]
            self.callbacks = about, checkpoint.arrays[num_arrays:]
            checkpoint = checkpoint._replace(arrays=checkpoint.arrays[:num_arrays])
        with _failures_named(self.path):
            return self._initial.resume(initial, checkpoint)

    def save(
        self,
        arrays: Sequence[Any],
        row: Row,
        clients: Iterable[Row] = (),
        evaluations: Iterable[Row] = (),
        callbacks: tuple[dict, Sequence[Any]] | None = None,
    ) -> None:
        """Writes a round and the state after it. Both are on disk when this returns.

        Args:
          arrays: the arrays of the state.
          row: name -> number, with "round": a row of metrics.csv.
          clients, evaluations: rows of the tables in clients.sqlite, without "round".
          callbacks: what `fedlab.callbacks._hooks.Hooks.save` returned, or None.

        Raises:
          OSError: the disk is full or fails. The last checkpoint is intact.
        """
        clients, evaluations = known(clients), known(evaluations)
        self.history.append(row)
        if self.path is None:
            self.client_states.commit()
            self.clients += [{"round": row["round"], **each} for each in clients]
            self.evaluations += [{"round": row["round"], **each} for each in evaluations]
            return
        ended = time.time()
        with _failures_named(self.path):
            num_states = self.client_states.commit()
            self._records.add(ended, row, clients, evaluations)
            about = {"client_states": num_states, "records": self._records.counts}
            checkpoint = self._initial.checkpoint({"round": row["round"], **about}, arrays)
            if callbacks is not None:
                checkpoint = Checkpoint(
                    {**checkpoint.about, "callbacks": callbacks[0]},
                    [*checkpoint.arrays, *callbacks[1]],
                )
            self._checkpoints.save(checkpoint)
            self._last_saved = row["round"]
            self.client_states.oldest_checkpoint = self._checkpoints.rounds()[0]
            write(self.path / "metrics.csv", _csv(self.history))
            self._events.add(ended, row)

    def finish(
        self,
        model: Any,
        write_report: Callable[[pathlib.Path], None],
        best: Any = None,
        stopped: str | None = None,
    ) -> None:
        """Writes the trained model and the report.

        Args:
          model: the trained model.
          write_report: writes the report of a run folder, given its path.
          best: the model of the best round, or None.
          stopped: why a callback has stopped the run, or None.
        """
        if self.path is None:
            return
        with _failures_named(self.path):
            if stopped is not None:
                config_lib.update(self.path, stopped=stopped)
            for name, each in (("best", best), ("model", model)):
                if each is not None:
                    temporary = self.path / f"{name}.tmp.keras"
                    with published(temporary, self.path / f"{name}.keras"):
                        each.save(temporary)
            write_report(self.path)

    def last_saved(self) -> int | None:
        """Returns the last round that has a checkpoint in the folder, or None."""
        return self._last_saved

    def close(self) -> None:
        """Closes the files and releases the lock."""
        self._stack.close()


@contextlib.contextmanager
def _failures_named(path: pathlib.Path) -> Iterator[None]:
    """Turns errors of the disk, of SQLite and of TensorFlow into one line each."""
    try:
        yield
    except PermissionError as error:
        raise PermissionError(
            f"{path} cannot be written ({error.strerror}): choose a run folder that is writable"
        ) from error
    except (OSError, sqlite3.OperationalError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise OSError(f"{path} cannot be written ({reason}): {MAKE_ROOM}") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(f"a table in {path} is damaged ({error}): {RESTORE}") from error


def known(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Returns rows with None in place of NaN, as SQLite stores them."""
    return [_known(row) for row in rows]


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    return None if value != value else value


def _csv(rows: Sequence[Row]) -> bytes:
    """Returns rows with differing keys as one table, with columns in order of appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    table = csv.DictWriter(out, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue().encode()
