"""The result of a simulation."""

import json
import os
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Run(NamedTuple):
    """The result of a simulation. `print(run)` shows a short table.

    Attributes:
      model: a compiled Keras model of the same architecture with the final global
        weights. The model that was passed is unchanged.
      history: one dict per round, name -> number, the columns of metrics.csv. Round 0
        is the evaluation before training. The training metrics of a round without a
        usable update are None.
      clients: one dict per client and round: round, client_id, num_examples,
        num_tokens, num_steps, weight, loss, dropped, reason, metrics. `reason` says why
        the client was dropped: "not finite", what its condition says ("dropout",
        "deadline"), or "". `metrics` is a dict of its other training metrics, name ->
        float. A loss or metric that is not a number is None, as is the loss of a client
        without examples. Engine "tff" does not know the loss and metrics of single
        clients. With a run folder, this is a sequence that reads from it.
      path: the run folder, or None.
      evaluations: one dict per client, round and metric of the sets whose clients are
        evaluated one by one (`fedlab.per_client`): round, part (the set's name),
        client_id, num_examples, metric, value. With a run folder, this is a sequence
        that reads from it.
      best: a compiled Keras model with the global weights of the best round, if
        `fedlab.callbacks.BestModel` was among the callbacks, or None.
      stopped: why a callback stopped the run before its last round, or None.
      settings: the settings of the run, as in config.json.
    """

    model: Any
    history: list[dict[str, Any]]
    clients: Sequence[dict[str, Any]]
    path: pathlib.Path | None
    evaluations: Sequence[dict[str, Any]]
    best: Any = None
    stopped: str | None = None
    settings: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        from fedlab.runs.read import views

        ended = f"stopped: {self.stopped}" if self.stopped else ""
        return views.summary(self.history, self.settings, self.path, ended)

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Plots the curves of the evaluation and training metrics over the rounds.

        Args:
          path: a PNG file to write, or None.

        Returns:
          A `matplotlib.figure.Figure` with one panel per metric. A notebook shows it.

        Raises:
          ValueError: the run has no metrics.
          ModuleNotFoundError: matplotlib is not installed.
        """
        from fedlab.runs.read import views

        return views.plot(self.history, path)

    def to_dataframe(self, table: str = "history") -> Any:
        """Returns a table of the run as a `pandas.DataFrame`.

        Args:
          table: "history", one row per round; "clients", one row per client and round,
            with the client's training metrics as columns; or "evaluations", one row per
            client, round and metric.

        Raises:
          ValueError: `table` is another name.
          ModuleNotFoundError: pandas is not installed.
        """
        from fedlab.runs.read import views

        return views.to_dataframe(table, lambda name: getattr(self, name))

    def report(self, path: str | os.PathLike | None = None) -> pathlib.Path:
        """Writes the report of the run, one HTML page.

        Args:
          path: the file. By default, report.html in the run folder.

        Returns:
          The path of the file.

        Raises:
          ValueError: `path` is missing and the run has no folder.
          FileNotFoundError: the folder of `path` does not exist.
          ModuleNotFoundError: jinja2 or matplotlib is not installed.
        """
        from fedlab.runs.read.report import write_report

        if self.path is not None:
            return write_report(self.path, path)
        if path is None:
            raise ValueError(
                "path=None: expected the file to write, because the run has no folder; pass a "
                "path such as 'report.html', or run_dir= to fedlab.simulate"
            )
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / (pathlib.Path(path).stem or "run")
            self._write_records(folder)
            return write_report(folder, path)

    def _write_records(self, folder: pathlib.Path) -> None:
        """Writes a run without a folder as far as reports read it."""
        import contextlib

        from fedlab.runs.write.records import Records

        folder.mkdir()
        config = {**self.settings, "rounds": self.history[-1]["round"], "stopped": self.stopped}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.keras").touch()  # the run is finished
        clients, evaluations = (_by_round(rows) for rows in (self.clients, self.evaluations))
        with contextlib.closing(Records(folder / "clients.sqlite")) as records:
            for row in self.history:
                round_num = row["round"]
                records.add(
                    time.time(), row, clients.get(round_num, ()), evaluations.get(round_num, ())
                )


def _by_round(rows: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["round"], []).append(row)
    return found
