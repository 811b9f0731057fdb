"""Reads a run folder, whether the run is finished, interrupted or running. Needs no TensorFlow."""

import itertools
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedlab import _checks, _files, _json
from fedlab.evaluation.metric_names import STATISTICS, best
from fedlab.runs.format import read_config
from fedlab.runs.read import views
from fedlab.runs.read.tables import FILE, TABLES, damaged, database, read_rounds

# Columns of metrics.csv that are not metrics, whatever the evaluation sets are called.
_COUNTS = {"clients_asked", "clients_finished", "clients_dropped", "bytes_down", "bytes_up"}
_AMOUNTS = {*_COUNTS, "seconds", "examples"}
_MOST = 10**18  # for amounts such as bytes
_LAST_TIME = 253402300799  # the end of the year 9999, in seconds since 1970
_AXES = {"round": ["round"], "bytes": ["bytes_down", "bytes_up"], "seconds": ["seconds"]}


class RecordedRun(NamedTuple):
    """A run as recorded in its folder.

    Attributes:
      path: the folder.
      config: the contents of config.json.
      history: one dict per round, the columns of metrics.csv.
      times: when each of these rounds ended, in seconds since 1970.
      finished: whether the model is written, and the run has done all its rounds or was
        stopped by a callback.
    """

    path: pathlib.Path
    config: dict[str, Any]
    history: list[dict[str, Any]]
    times: list[float]
    finished: bool

    @property
    def rounds_done(self) -> int:
        """The last round."""
        return self.history[-1]["round"] if self.history else 0

    @property
    def stopped(self) -> str | None:
        """Why a callback has stopped the run, or None."""
        return self.config.get("stopped")

    @property
    def parts(self) -> list[str]:
        """What metrics are computed on: "train" and the evaluation sets."""
        sets = self.config.get("evaluation_examples")
        return ["train", *(sets if isinstance(sets, dict) else {})]

    @property
    def per_client_parts(self) -> list[str]:
        """The evaluation sets on which each client is evaluated separately."""
        sets = self.config.get("evaluation_examples") or {}
        return [
            part
            for part in self.parts[1:]
            if isinstance(sets[part], dict) and "clients" in sets[part]
        ]

    @property
    def metrics(self) -> list[str]:
        """The columns that are metrics of a part, without statistics over clients, in order."""
        ends = tuple(f"_{end}" for end in (*STATISTICS, "gain"))
        starts = tuple(f"{part}_" for part in self.parts)
        per_client = tuple(f"{part}_" for part in self.per_client_parts)
        columns = dict.fromkeys(name for row in self.history for name in row)
        return [
            name
            for name in columns
            if name not in _COUNTS
            and name.startswith(starts)
            and not (name.startswith(per_client) and name.endswith(ends))
        ]

    def split(self, column: str) -> tuple[str, str]:
        """Returns (part, metric) of the column of a metric."""
        part = max((part for part in self.parts if column.startswith(f"{part}_")), key=len)
        return part, column[len(part) + 1 :]

    def curve(self, column: str) -> tuple[list[int], list[float]]:
        """Returns the rounds in which a column has a number, and the numbers."""
        points = [
            (row["round"], row[column])
            for row in self.history
            if _checks.is_number(row.get(column)) and row[column] == row[column]
        ]
        return [x for x, _ in points], [y for _, y in points]

    def results(self) -> dict[str, dict[str, Any]]:
        """Returns the last and the best value of each metric, with their rounds.

        Metrics without a number are left out.
        """
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

    def places(self, axis: str) -> dict[int, float]:
        """Returns the position of each round on an axis.

        Args:
          axis: "round"; "bytes", sent in both directions so far; or "seconds" of training
            so far.
        """
        amounts = [sum(row.get(column) or 0 for column in _AXES[axis]) for row in self.history]
        places = amounts if axis == "round" else itertools.accumulate(amounts)
        return {row["round"]: place for row, place in zip(self.history, places)}

    def total(self, column: str) -> float:
        """Returns the sum of a column over the rounds."""
        return sum(self.curve(column)[1])

    def __repr__(self) -> str:
        ended = f"stopped: {self.stopped}" if self.stopped else ""
        return views.summary(
            self.history, self.config, self.path, ended or "not finished" * (not self.finished)
        )

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Plots the curves of the metrics; see `fedlab.Run.plot`."""
        return views.plot(self.history, path)

    def to_dataframe(self, table: str = "history") -> Any:
        """Returns a table of the run as a `pandas.DataFrame`; see `fedlab.Run.to_dataframe`."""
        return views.to_dataframe(
            table, lambda name: self.history if name == "history" else self.rows(name)
        )

    def report(self, path: str | os.PathLike | None = None) -> pathlib.Path:
        """Writes the report of the run; see `fedlab.runs.write_report`."""
        from fedlab.runs.read.report import write_report

        return write_report(self.path, path)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Returns the rows of the table "clients" or "evaluations", in the order written."""
        columns = TABLES[table]
        found = self.query(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid")
        rows = [dict(zip(columns, row)) for row in found]
        if table == "clients":
            rows = [{**row, "metrics": _json.loads(row["metrics"])} for row in rows]
        return rows

    def query(self, query: str, *values: Any) -> list[tuple]:
        """Returns the rows of an SQL query on the tables of clients.sqlite."""
        with database(self.path) as connection:
            return connection.execute(query, values).fetchall()


def read_run(path: str | os.PathLike) -> RecordedRun:
    """Reads a run folder.

    Args:
      path: the folder.

    Raises:
      TypeError: `path` is not a path.
      FileNotFoundError: the folder does not exist or holds no run.
      NotADirectoryError: `path` is a file.
      ValueError: the folder has another format version, or its files are damaged.

    Example:
      >>> run = read_run("runs/first")  # doctest: +SKIP
      >>> run.rounds_done, run.results()["test_accuracy"]["best_round"]  # doctest: +SKIP
      (20, 18)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise _checks.type_error("the run folder", path, "a path")
    path = _existing(path, "run folder")
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{path} holds no run (it has no config.json): "
            "expected a folder that was the run_dir of a simulation"
        )
    config = read_config(path)
    if not (path / FILE).is_file():
        raise ValueError(
            f"{path} has no {FILE}, which holds the rounds of a run: "
            "restore it or run the simulation again"
        )
    found = read_rounds(path)
    try:
        history = [_checked_row(*each) for each in found]
    except (ValueError, TypeError) as error:
        raise damaged(path / FILE, error) from None
    _check_config(path / "config.json", config)
    rounds = config.get("rounds")
    done = history[-1]["round"] if history else -1
    finished = (path / "model.keras").is_file() and (
        rounds is None or done >= rounds or config.get("stopped") is not None
    )
    return RecordedRun(path, config, history, [time for _, time, _ in found], finished)


def find_runs(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the run folders in a folder and below it, sorted; or the folder if it is one.

    Raises:
      FileNotFoundError, NotADirectoryError: the folder does not exist.
    """
    found = []
    for path, folders, files in os.walk(_existing(folder, "folder")):
        folders.sort()
        if "config.json" in files:
            found.append(pathlib.Path(path))
            folders.clear()  # run folders are not nested
    return sorted(found)


def _existing(path: str | os.PathLike, what: str) -> pathlib.Path:
    path = pathlib.Path(path)
    with _files.explained(str(path), f"give a {what} that can be read"):
        exists = path.exists()
        if path.is_dir():
            os.listdir(path)
    if not exists:
        raise FileNotFoundError(f"there is no {what} {str(path)!r}: check the path")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file: expected a {what}")
    return path


def _checked_row(round_num: int, time: Any, text: str) -> dict[str, Any]:
    """Returns a row of the table `rounds`. Raises ValueError or TypeError if it is invalid."""
    row = dict(_json.loads(text, _json.MOST_LEVELS))
    if type(row.get("round")) is not int or row["round"] != round_num:
        raise ValueError(f"the row of round {round_num} names another round")
    for name, value in row.items():
        where = f"{name!r:.60} of round {round_num}"
        if not (value is None or isinstance(value, (int, float))):
            raise ValueError(f"{where} is {value!r:.40}: expected a number")
        if isinstance(value, int) and abs(value) > _MOST:
            raise ValueError(f"{where} is a number of {len(str(abs(value)))} digits")
        if name in _AMOUNTS and value is not None and not 0 <= value <= _MOST:
            raise ValueError(f"{where} is {value!r:.40}: expected an amount")
    if not isinstance(time, (int, float)) or not 0 <= time <= _LAST_TIME:
        raise ValueError(f"the time of round {round_num} is {time!r:.40}")
    return row


def _check_config(file: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Raises ValueError if an entry that is used for computing has the wrong type."""
    for name, expected, is_valid in (
        ("rounds", "an integer of at least 0", _is_count),
        ("num_clients", "an integer of at least 0", _is_count),
        ("evaluation_examples", "an object of numbers, names and objects", _are_sets),
        ("versions", "an object", lambda value: isinstance(value, dict)),
        ("stopped", "a string", lambda value: isinstance(value, str)),
        ("model_name", "a string", lambda value: isinstance(value, str)),
        ("evaluation_clients", "an object of counts", _are_client_counts),
        ("layer_table", "a list of layers", _are_layers),
    ):
        value = config.get(name)
        if value is not None and not is_valid(value):
            raise ValueError(
                f"{file} is damaged ({name} is {value!r:.60}: expected {expected}): "
                "restore an undamaged copy"
            )


def _is_count(value: Any) -> bool:
    return _checks.is_int(value, 0, _MOST)


def _are_sets(value: Any) -> bool:
    """Whether a value maps evaluation sets to counts, names of functions, or objects."""
    return isinstance(value, dict) and all(map(_is_set, value.values()))


def _are_client_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(counts, dict)
        and _is_count(counts.get("clients"))
        and _is_count(counts.get("training"))
        for counts in value.values()
    )


def _are_layers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(layer, dict)
        and isinstance(layer.get("name"), str)
        and isinstance(layer.get("class"), str)
        and isinstance(layer.get("output"), list)
        and all(isinstance(shape, str) for shape in layer["output"])
        and _is_count(layer.get("parameters"))
        and _is_count(layer.get("trainable_parameters"))
        for layer in value
    )


def _is_set(about: Any) -> bool:
    if isinstance(about, dict):
        counts = (about.get(name) for name in ("clients", "local", "test"))
        return all(count is None or _is_count(count) for count in counts)
    return isinstance(about, str) or _is_count(about)
