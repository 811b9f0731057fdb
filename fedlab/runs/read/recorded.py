"""What a run folder tells about its run, finished, interrupted or under way. It is read only, without TensorFlow."""

import itertools
import json
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from fedlab import _checks, _files, _json
from fedlab.evaluation.metric_names import STATISTICS, best
from fedlab.runs.format import LAYERS, read_config
from fedlab.runs.read.tables import FILE, TABLES, database, read_rounds

# Columns of metrics.csv that no set's name makes a metric.
_COUNTS = {"clients_asked", "clients_finished", "clients_dropped", "bytes_down", "bytes_up"}
_HASH = re.compile("[0-9a-f]{64}")
_MOST = 10**18  # of an amount, such as bytes
_LAST_TIME = 253402300799  # the end of the year 9999, in seconds since 1970
_NOT_SETTINGS = {"format_version", "versions", "commit", "rounds", "stopped"}


class RecordedRun(NamedTuple):
    """A run as its folder tells it.

    Attributes:
      path: the folder.
      config: what config.json holds.
      history: one dict a round, the columns of metrics.csv.
      times: when each of these rounds ended, in seconds since 1970.
      finished: whether the rounds asked for are done, or a callback has stopped the run, and the model is written.
    """

    path: pathlib.Path
    config: dict
    history: list
    times: list
    finished: bool

    @property
    def rounds_done(self):
        return self.history[-1]["round"] if self.history else 0

    @property
    def stopped(self):
        """Why a callback has stopped the run, or None."""
        return self.config.get("stopped")

    @property
    def parts(self):
        """What metrics are of: "train", and the sets that are evaluated."""
        sets = self.config.get("evaluation_examples")
        return ["train", *(sets if isinstance(sets, dict) else {})]

    @property
    def per_client_parts(self):
        """The sets in which each client is evaluated by itself."""
        return [
            part
            for part in self.parts[1:]
            if "clients" in _dict(self.config["evaluation_examples"][part])
        ]

    @property
    def metrics(self):
        """The columns that are metrics of a part, without statistics over clients, in their order."""
        columns = dict.fromkeys(name for row in self.history for name in row if name not in _COUNTS)
        ends = tuple(f"_{end}" for end in (*STATISTICS, "gain"))
        statistics = {
            name
            for part in self.per_client_parts
            for name in columns
            if name.startswith(f"{part}_") and name.endswith(ends)
        }
        return [
            name
            for name in columns
            if name not in statistics and any(name.startswith(f"{part}_") for part in self.parts)
        ]

    def split(self, column):
        """(part, metric) of a metric's column."""
        part = max((part for part in self.parts if column.startswith(f"{part}_")), key=len)
        return part, column[len(part) + 1 :]

    def curve(self, column):
        """([rounds], [values]) of a column of metrics.csv where it has a number."""
        points = [
            (row["round"], row[column]) for row in self.history if _is_number(row.get(column))
        ]
        return [x for x, _ in points], [y for _, y in points]

    def results(self):
        """Metric -> its last and its best value, with their rounds; metrics without a number are left out."""
        found = {}
        for name in self.metrics:
            rounds, values = self.curve(name)
            if values:
                top = best(values, name)
                found[name] = {
                    "last": values[-1],
                    "last_round": rounds[-1],
                    "best": top,
                    "best_round": rounds[values.index(top)],
                }
        return found

    def places(self, axis):
        """Round -> where it is on an axis: "round", "bytes" sent so far, down and up, or "seconds" of training so far."""
        columns = {"round": ["round"], "bytes": ["bytes_down", "bytes_up"], "seconds": ["seconds"]}[
            axis
        ]
        amounts = [sum(row.get(column) or 0 for column in columns) for row in self.history]
        places = amounts if axis == "round" else itertools.accumulate(amounts)
        return {row["round"]: place for row, place in zip(self.history, places)}

    def total(self, column):
        """The sum of a column over the rounds."""
        return sum(self.curve(column)[1])

    def rows(self, table):
        """Rows of the table "clients" or "evaluations" as dicts, in the order they were written."""
        rows = [
            dict(zip(TABLES[table], row))
            for row in self.query(f"SELECT {', '.join(TABLES[table])} FROM {table} ORDER BY rowid")
        ]
        return (
            [{**row, "metrics": _json.loads(row["metrics"])} for row in rows]
            if table == "clients"
            else rows
        )

    def query(self, query, *values):
        """Rows of a query over the tables of clients.sqlite."""
        with database(self.path) as connection:
            return connection.execute(query, values).fetchall()


def read_run(path):
    """Reads a run folder.

    Args:
      path: the folder.

    Returns:
      A `RecordedRun`.

    Raises:
      FileNotFoundError: there is no such folder, or it holds no run.
      NotADirectoryError: it is a file.
      ValueError: its files are damaged, of another format version, or of something else.

    Example:
      >>> run = read_run("runs/first")  # doctest: +SKIP
      >>> run.rounds_done, run.results()["test_accuracy"]["best_round"]  # doctest: +SKIP
      (20, 18)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"the run folder is {path!r:.60}; allowed: a path.")
    path = pathlib.Path(path)
    with _files.explained(str(path), "give a run folder that can be read"):
        exists = path.exists()
        if path.is_dir():
            os.listdir(path)
    if not exists:
        raise FileNotFoundError(f"there is no run folder {str(path)!r}: check the path.")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; allowed: a run folder.")
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{path} holds no run, it has no config.json: give a folder that was the run_dir of a simulation."
        )
    config = read_config(path)
    if not (path / "clients.sqlite").is_file():
        raise ValueError(
            f"{path} has no clients.sqlite, which holds a run's rounds: put it back, or run the simulation again."
        )
    found = read_rounds(path)
    try:
        history = [_checked_row(*each) for each in found]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path / FILE} is damaged ({error}): put a good copy back, or run the simulation again."
        ) from None
    _check_config(path, config)
    asked = config.get("rounds")
    done = history[-1]["round"] if history else -1
    finished = (path / "model.keras").is_file() and (
        asked is None or done >= asked or config.get("stopped") is not None
    )
    return RecordedRun(path, config, history, [time for _, time, _ in found], finished)


def _checked_row(round_num, time, text):
    """A row of metrics.csv, from the table `rounds`. Raises ValueError or TypeError where it is not one that a run has written."""
    row = dict(_json.loads(text, _json.MOST_LEVELS))
    if type(row.get("round")) is not int or row["round"] != round_num:
        raise ValueError(f"a row without its round, {round_num}")
    for name, value in row.items():
        if not (value is None or isinstance(value, (int, float))):
            raise ValueError(
                f"{name!r:.60} of round {round_num} is {value!r:.40}, which is no number"
            )
        if isinstance(value, int) and abs(value) > _MOST:
            raise ValueError(
                f"{name!r:.60} of round {round_num} is a number of {len(str(abs(value)))} digits"
            )
        if (
            (name in _COUNTS or name in ("seconds", "examples"))
            and value is not None
            and not 0 <= value <= _MOST
        ):
            raise ValueError(f"{name!r} of round {round_num} is {value!r:.40}, which is no amount")
    if not isinstance(time, (int, float)) or not 0 <= time <= _LAST_TIME:
        raise ValueError(f"round {round_num} ended at {time!r:.40}, which is no time")
    return row


def _check_config(path, config):
    """Raises ValueError where config.json has another form in what is computed with."""
    for name, allowed, is_allowed in (
        ("rounds", "an int", lambda value: _checks.is_int(value, 0, _MOST)),
        ("num_clients", "an int", lambda value: _checks.is_int(value, 0, _MOST)),
        ("evaluation_examples", "an object of numbers, names and objects", _are_sets),
        ("versions", "an object", lambda value: isinstance(value, dict)),
        ("stopped", "a text", lambda value: isinstance(value, str)),
    ):
        value = config.get(name)
        if value is not None and not is_allowed(value):
            raise ValueError(
                f"{path / 'config.json'} is damaged ({name} is {value!r:.60}; allowed: {allowed}): put a good copy back."
            )


def _are_sets(value):
    """Whether a value is what `simulate` says of evaluation sets: name -> number of examples, function's name, or object."""
    return isinstance(value, dict) and all(map(_is_set, value.values()))


def _is_set(about):
    if isinstance(about, dict):
        return all(
            about[name] is None or _checks.is_int(about[name], 0, _MOST)
            for name in ("clients", "local", "test")
            if name in about
        )
    return isinstance(about, str) or _checks.is_int(about, 0, _MOST)


def find_runs(folder):
    """The run folders in a folder and the folders below it, or the folder itself, sorted: folders with a config.json.

    Raises:
      FileNotFoundError, NotADirectoryError: there is no such folder.
    """
    folder = pathlib.Path(folder)
    with _files.explained(str(folder), "give a folder that can be read"):
        if folder.is_dir():
            os.listdir(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}: check the path.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; allowed: a folder that holds run folders.")
    found = []
    for path, folders, files in os.walk(folder):
        folders.sort()
        if "config.json" in files:
            found.append(pathlib.Path(path))
            folders.clear()  # a run folder holds no other
    return sorted(found)


def settings(config, layers=False):
    """A run's settings by name, those in others as "batching.batch_size"; without what is said for the record only.

    Args:
      config: what config.json holds.
      layers: whether to give the settings of each layer, such as "layers[2].rate".

    Example:
      >>> settings({"seed": 0, "batching": {"batch_size": 8}, "layers": [{"rate": 0.5}], "commit": None})
      {'seed': 0, 'batching.batch_size': 8}
    """
    left_out = _NOT_SETTINGS if layers else {*_NOT_SETTINGS, *LAYERS}
    return dict(_flat({name: value for name, value in config.items() if name not in left_out}))


def differing(runs):
    """Setting -> its value in each of some runs, None where one lacks it; only settings that differ.

    The settings of layers are compared where the runs' models have the same kinds of layers.
    """
    layers = all(run.config.get("model") == runs[0].config.get("model") for run in runs)
    tables = [settings(run.config, layers) for run in runs]
    names = dict.fromkeys(name for table in tables for name in table)
    values = {name: [table.get(name) for table in tables] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


def shown(name, value):
    """A setting's value as a person reads it.

    Example:
      >>> shown("optimizer.learning_rate", 0.30000001192092896), shown("client_ids", "9a59ebda" * 8), shown("cohort", None)
      ('0.3', '9a59ebda', 'null')
    """
    if isinstance(value, str) and _HASH.fullmatch(value):
        return value[:8]
    if name == "model" and isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            kept = np.float32(value)
        if kept == value:
            return min(json.dumps(value), str(kept), key=len)  # 0.3, and not what Keras keeps of it
    return value if isinstance(value, str) else json.dumps(value)


def _flat(config, prefix=""):
    for name, value in config.items():
        yield from _flat_value(f"{prefix}{name}", value)


def _flat_value(path, value):
    if isinstance(value, dict) and value:
        yield from _flat(value, f"{path}.")
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for i, each in enumerate(value):
            yield from _flat_value(f"{path}[{i}]", each)
    else:
        yield path, value


def _dict(value):
    return value if isinstance(value, dict) else {}


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
