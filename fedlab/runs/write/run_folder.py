"""A run as a folder. Whatever ends the process, at whatever moment, the same run goes on from it to the same bits.

    config.json            settings, versions, commit
    initial.npz            the state that the run started from: its initial weights
    checkpoints/           the state after each of the last two rounds, without what still is as in initial.npz
    client_states.sqlite   what clients keep from round to round, where they do
    clients.sqlite         a row a round, a client, and a client's metric: see `fedlab.runs.format`
    metrics.csv, events/   the rounds as a table and for TensorBoard, made from clients.sqlite
    model.keras            the trained model
    best.keras             the model of the best round, where a callback keeps it
    report.html            all of it as a page: see `fedlab.runs.read.report`
    lock                   the process that writes

A round is on disk when its checkpoint is. What clients keep and the round's rows are written before it, each in a transaction: where the
process ends between them, they are ahead of the last checkpoint, and are rewound to it. Tables are written after it, and made anew.
"""

import contextlib
import csv
import io
import json
import logging
import os
import pathlib
import sqlite3
import time

import numpy as np
import tensorflow as tf

from fedlab._files import explained, published, write
from fedlab.runs.format import read_config
from fedlab.runs.write import config as config_lib
from fedlab.runs.write.checkpoints import (
    Checkpoint,
    Checkpoints,
    DamagedError,
    decode,
    digest,
    encode,
)
from fedlab.runs.write.client_states import ClientStates
from fedlab.runs.write.events import Events
from fedlab.runs.write.lock import Lock
from fedlab.runs.write.records import Records

logger = logging.getLogger("fedlab")


class RunFolder:
    """Where a run keeps what it does; without a path it keeps rows in memory.

    Attributes:
      path: the folder, or None.
      history: rows of the rounds done so far.
      clients, evaluations: rows of these tables so far: read from the folder when asked for, so that memory does not grow with them.
      client_states: what clients keep from round to round; a checkpoint is of one moment with it.
      callbacks: what `save` was given for the callbacks after the last round; (None, []) for a run at its start, or without callbacks.
    """

    def __init__(self, path=None, lock=None, tables=None):
        self.path = path
        self.client_states = ClientStates(path and path / "client_states.sqlite")
        self.history = []
        self.clients, self.evaluations = ([], []) if path is None else tables
        self.callbacks = None, []
        self._stack = contextlib.ExitStack()
        if lock is not None:
            self._stack.callback(lock.close)
        self._stack.callback(self.client_states.close)
        self._checkpoint = None
        self._initial = []
        self._initial_digests = {}

    @classmethod
    def open(cls, path, setting, more, rounds, read_tables):
        """Opens a new folder, or continues one whose settings are the same.

        Args:
          path: the folder; None for a run that keeps nothing.
          setting, more: see `fedlab.runs.write.config.resolve`.
          rounds: how many are asked for; it may be another number than before.
          read_tables: path -> the rows of the tables `clients` and `evaluations`.

        Raises:
          ValueError: the folder holds a run of other settings or of another format version, or something else; another process uses it;
            or its files are damaged so that the run cannot go on.
        """
        if path is None:
            return cls()
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"run_dir is {path!r:.60}; allowed: the path of a folder, or None.")
        path, config = pathlib.Path(path), {**config_lib.resolve(setting, more), "rounds": rounds}
        with explained(f"run_dir={path}", "choose another run folder"):
            # "lock" and an unfinished "config.json.tmp" may be all that an interrupted first start left.
            others = (
                {file.name for file in path.iterdir()} - {"lock", "config.json.tmp"}
                if path.exists()
                else ()
            )
            if others and not (path / "config.json").exists():
                raise ValueError(
                    f"{path} is not empty and holds no run: choose a new or empty folder."
                )
            path.mkdir(parents=True, exist_ok=True)
            with _failures_named(path):
                folder = cls(path, Lock(path / "lock"), read_tables(path))
        try:
            with _failures_named(path):
                if (path / "config.json").exists():
                    config_lib.check_same(path, config)
                else:
                    write(
                        path / "config.json",
                        json.dumps(config_lib.with_commit(config), indent=1).encode(),
                    )
                folder._open_files()
                before = read_config(path)
                if before.get("rounds") != rounds:
                    write(
                        path / "config.json",
                        json.dumps({**before, "rounds": rounds}, indent=1).encode(),
                    )
        except BaseException:
            folder.close()
            raise
        return folder

    def _open_files(self):
        self._checkpoints = Checkpoints(self.path / "checkpoints")
        self._records = self._stack.enter_context(
            contextlib.closing(Records(self.path / "clients.sqlite"))
        )
        self._checkpoint = checkpoint = self._checkpoints.last()
        about = checkpoint.about if checkpoint else {"round": -1, "client_states": 0, "records": {}}
        last = self._records.last_round()
        if checkpoint is None and last:
            raise ValueError(
                f"{self._checkpoints.folder} lacks the checkpoints of a run of {last} rounds: put them back, or start a new run folder."
            )
        self._records.rewind(about["round"])
        if checkpoint and self._records.counts != about["records"]:
            raise ValueError(
                f"{self._records.path} holds the rows {self._records.counts}, the checkpoint of round {about['round']} needs "
                f"{about['records']}: put the file back that belongs to the run, or start a new run folder."
            )
        self.client_states.oldest_checkpoint = min(self._checkpoints.rounds(), default=None)
        self.client_states.rewind(max(0, about["round"]), about["client_states"])
        if last is not None and last > about["round"]:
            logger.warning(
                "%s is not there: the run ended before, or it was removed; its round runs again.",
                self._checkpoints.file(last),
            )
        rounds = self._records.rounds()
        self.history += [row for _, row in rounds]
        self._events = self._stack.enter_context(
            contextlib.closing(Events(self.path / "events", rounds))
        )
        if checkpoint:
            write(self.path / "metrics.csv", _csv(self.history))
            logger.info("continuing %s after round %d", self.path, about["round"])

    def resume(self, initial):
        """The arrays of the state to continue from, or None where that is `initial`.

        A run continues from the weights that it started with, which the folder holds. A model that is built without a seed has other
        weights in every process.

        Args:
          initial: the arrays of the state of the model as it was passed. A new run starts from them.

        Raises:
          ValueError: the folder holds a state of another form, or the file with the initial state is damaged or missing.
        """
        if self.path is None:
            return None
        checkpoint, self._checkpoint = self._checkpoint, None
        checkpoint = checkpoint and self._without_callbacks(checkpoint)
        digests = checkpoint.about["initial"] if checkpoint else {}
        with _failures_named(self.path):
            stored = self._stored_initial(initial, digests)
        for kept in (stored, checkpoint.arrays if checkpoint else stored):
            if len(kept) != len(initial):
                raise ValueError(
                    f"{self.path} holds a state of {len(kept)} arrays, not {len(initial)}: start a new run folder."
                )
        if not all(map(_same_bits, initial, stored)):
            logger.warning(
                "the model's weights differ from those that the run in %s started with; the run continues from the stored ones. "
                "Choose another run folder to train from the model's weights.",
                self.path,
            )
        if checkpoint is None:
            self._initial = stored
            return list(stored)
        self._initial_digests = digests
        self._initial = [
            array if kept is None else None for array, kept in zip(stored, checkpoint.arrays)
        ]
        return [array if kept is None else kept for array, kept in zip(stored, checkpoint.arrays)]

    def _stored_initial(self, initial, digests):
        """The arrays in initial.npz, which is written where it is missing and nothing else is needed.

        Args:
          initial: the arrays of the model as it was passed.
          digests: number -> digest of the arrays that the last checkpoint takes from the file.
        """
        file = self.path / "initial.npz"
        try:
            stored = decode(file.read_bytes()).arrays
            if any(
                int(i) >= len(stored) or digest(stored[int(i)]) != wanted
                for i, wanted in digests.items()
            ):
                raise DamagedError("it is of another run")
            return stored
        except FileNotFoundError:
            problem = "is missing"
        except DamagedError as error:
            problem = f"is damaged ({error})"
        if any(
            int(i) >= len(initial) or digest(initial[int(i)]) != wanted
            for i, wanted in digests.items()
        ):
            raise ValueError(
                f"{file} {problem}: put the file back that belongs to the run, or start a new run folder."
            )
        write(file, *encode(Checkpoint({}, initial)))
        return [np.asarray(array) for array in initial]

    def _without_callbacks(self, checkpoint):
        """The checkpoint without the callbacks' arrays, which are at its end."""
        about = checkpoint.about.get("callbacks")
        if about is None:
            return checkpoint
        num_arrays = len(checkpoint.arrays) - about["num_arrays"]
        self.callbacks = about, checkpoint.arrays[num_arrays:]
        return checkpoint._replace(arrays=checkpoint.arrays[:num_arrays])

    def save(self, arrays, row, clients=(), evaluations=(), callbacks=None):
        """Writes a round down, and the state after it. On disk when it returns.

        Args:
          arrays: of the state: numbers only.
          row: name -> number, with "round": a row of metrics.csv.
          clients, evaluations: rows of the tables in clients.sqlite, without "round".
          callbacks: what `fedlab.callbacks._hooks.Hooks.save` returned, or None.

        Raises:
          OSError: the disk is full, or fails otherwise; the last checkpoint stays good.
        """
        clients, evaluations = known(clients), known(evaluations)
        self.history.append(row)
        if self.path is None:
            self.client_states.commit()
            self.clients += [{"round": row["round"], **client} for client in clients]
            self.evaluations += [
                {"round": row["round"], **evaluation} for evaluation in evaluations
            ]
            return
        ended = time.time()
        with _failures_named(self.path):
            num_states = self.client_states.commit()
            self._records.add(ended, row, clients, evaluations)
            about = {
                "round": row["round"],
                "client_states": num_states,
                "records": self._records.counts,
            }
            checkpoint = self._without_initial(about, arrays)
            if callbacks is not None:
                checkpoint = Checkpoint(
                    {**checkpoint.about, "callbacks": callbacks[0]},
                    [*checkpoint.arrays, *callbacks[1]],
                )
            self._checkpoints.save(checkpoint)
            self.client_states.oldest_checkpoint = self._checkpoints.rounds()[0]
            write(self.path / "metrics.csv", _csv(self.history))
            self._events.add(ended, row)

    def finish(self, model, write_report, best=None, stopped=None):
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
                write(
                    self.path / "config.json",
                    json.dumps({**read_config(self.path), "stopped": stopped}, indent=1).encode(),
                )
            for name, each in (("best", best), ("model", model)):
                if each is not None:
                    with published(
                        self.path / f"{name}.tmp.keras", self.path / f"{name}.keras"
                    ) as temporary:
                        each.save(temporary)
            write_report(self.path)

    def close(self):
        """Closes the files and lets others have the folder."""
        self._stack.close()

    def _without_initial(self, about, arrays):
        """The checkpoint, without the arrays that have been what they were at the start in every round so far."""
        kept = []
        for i, array in enumerate(arrays):
            same = self._initial[i] is not None and _same_bits(array, self._initial[i])
            if not same:
                self._initial[i] = None  # nor is it held in memory any longer
            elif str(i) not in self._initial_digests:
                self._initial_digests[str(i)] = digest(array)
            kept.append(None if same else array)
        return Checkpoint(
            {
                **about,
                "initial": {
                    str(i): self._initial_digests[str(i)] for i, a in enumerate(kept) if a is None
                },
            },
            kept,
        )


@contextlib.contextmanager
def _failures_named(path):
    """Failures of the disk, and of files that SQLite reads, as one kind of error each, whoever meets them."""
    try:
        yield
    except PermissionError as error:
        raise PermissionError(
            f"{path} cannot be written ({error.strerror}): choose a run folder that you may write to."
        ) from error
    except (OSError, sqlite3.OperationalError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise OSError(
            f"{path} cannot be written ({reason}); its last checkpoint stays good: make room on the disk and run the same again."
        ) from error
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"a table in {path} is damaged ({error}): put a good copy back, or start a new run folder."
        ) from error


def known(rows):
    """Rows with None for what is not a number, as SQLite has it."""
    return [_known(row) for row in rows]


def _known(value):
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    return None if value != value else value


def _same_bits(first, second):
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    return first.dtype.hasobject is False and np.array_equal(
        *(np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (first, second))
    )


def _csv(rows):
    """Rows of differing keys as one table, columns in the order they first appear."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    table = csv.DictWriter(out, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue().encode()
