"""Logs a run to MLflow."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fedlab import __version__
from fedlab.callbacks._tracker import Tracker, check_text, require
from fedlab.callbacks.callback import Row

# MLflow accepts this many at once, and texts of this length.
_MOST_METRICS, _MOST_PARAMETERS, _MOST_CHARACTERS = 1000, 100, 500


class MLflow(Tracker):
    """Logs settings, metrics per round and, if asked, the files of a run to MLflow.

    By default everything is stored in the folder `mlruns`, and no server is contacted.
    To look at it: `MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri mlruns`
    (the user interface is in the package `mlflow`; this callback only needs
    `mlflow-skinny`, the extra `mlflow`).

    A parameter is a setting as in config.json, such as `optimizer.learning_rate`. A
    metric is a column of `Run.history`, and its step is the round. If a simulation is
    interrupted and resumed, it continues the same MLflow run, and no round is logged
    twice. The MLflow run has the status RUNNING until the simulation ends. An active
    run of `mlflow.start_run` is not used.

    Args:
      experiment: the name of the experiment, which is created if it does not exist.
      run_name: the name of the run; by default, that of the run folder.
      tracking_uri: a folder, or an address such as "http://localhost:5000" or
        "sqlite:///mlflow.db" (which needs the package `mlflow`). The environment
        variable MLFLOW_TRACKING_URI is not read.
      artifacts: whether to store the report, the model, config.json and metrics.csv at
        the end of the run. Needs `run_dir`.

    Attributes:
      run_id: the id of the MLflow run, or None before round 0.

    Raises:
      ModuleNotFoundError: MLflow is not installed.
      TypeError, ValueError: an argument is wrong; or, in a resumed simulation, its MLflow
        run does not exist at `tracking_uri`.

    Example:
      >>> import fedlab as fl
      >>> tracker = fl.callbacks.MLflow("shakespeare", artifacts=True)  # doctest: +SKIP
      >>> run = fl.simulate(model, clients, rounds=9, clients_per_round=5, run_dir="runs/a",
      ...                   callbacks=[tracker])  # doctest: +SKIP
    """

    def __init__(
        self,
        experiment: str = "fedlab",
        *,
        run_name: str | None = None,
        tracking_uri: str | os.PathLike = "mlruns",
        artifacts: bool = False,
    ):
        super().__init__(artifacts, run_name)
        check_text("experiment", experiment)
        check_text("tracking_uri", os.fspath(tracking_uri))
        require("mlflow", "fedlab.callbacks.MLflow")
        self._experiment = experiment
        self._uri = os.fspath(tracking_uri)
        # Not the address, which may contain a password.
        self.settings = {"experiment": experiment, "artifacts": artifacts}
        self._client: Any = None
        self._logged: dict[str, set[int]] = {}

    def on_run_begin(self, history: Sequence[Row]) -> None:
        """See `Callback`."""
        super().on_run_begin(history)
        self._client, self._logged = None, {}

    def _begin(self, run_id: str | None) -> str:
        self._client = client = _client(self._uri)
        if run_id is not None:
            self._logged = self._steps(run_id)
            client.update_run(run_id, status="RUNNING")
            return run_id
        found = client.get_experiment_by_name(self._experiment)
        experiment = client.create_experiment(self._experiment) if found is None else None
        experiment = experiment or found.experiment_id
        tags = {"fedlab.version": __version__}
        if self._run_dir is not None:
            tags["fedlab.run_dir"] = str(self._run_dir.absolute())
        run_id = client.create_run(experiment, run_name=self._run_name, tags=tags).info.run_id
        self._log_parameters(run_id)
        return run_id

    def _steps(self, run_id: str) -> dict[str, set[int]]:
        """The rounds that each metric was logged in before the interruption."""
        from mlflow.exceptions import MlflowException

        try:
            names = self._client.get_run(run_id).data.metrics
        except MlflowException as error:
            raise ValueError(
                f"tracking_uri={self._uri!r:.200}: expected the MLflow run {run_id}, which this "
                f"simulation resumes ({str(error).splitlines()[0]:.200}); pass the tracking_uri "
                "that it was started with"
            ) from error
        history = self._client.get_metric_history
        return {name: {each.step for each in history(run_id, name)} for name in names}

    def _log_parameters(self, run_id: str) -> None:
        from mlflow.entities import Param

        parameters = [
            Param(_name(name), value[:_MOST_CHARACTERS]) for name, value in self._parameters.items()
        ]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            part = parameters[start : start + _MOST_PARAMETERS]
            self._client.log_batch(run_id, params=part)

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [
            Metric(_name(name), value, now, step)
            for name, value in metrics.items()
            if step not in self._logged.get(_name(name), ())
        ]
        for start in range(0, len(new), _MOST_METRICS):
            part = new[start : start + _MOST_METRICS]
            self._client.log_batch(self._run_id, metrics=part)

    def _finish(self, files: Sequence[pathlib.Path], stopped: str | None) -> None:
        for file in files:
            self._client.log_artifact(self._run_id, str(file))
        if stopped is not None:
            self._client.set_tag(self._run_id, "fedlab.stopped", stopped)
        self._client.set_terminated(self._run_id, "FINISHED")


def _client(uri: str) -> Any:
    # Otherwise importing MLflow reports to its makers.
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "true")
    if "://" not in uri and not uri.startswith("file:"):
        uri = pathlib.Path(uri).expanduser().absolute().as_uri()
    if uri.startswith("file:"):
        # MLflow 3 refuses folders otherwise. Databases need more than mlflow-skinny.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _name(name: str) -> str:
    """A name as MLflow allows it: letters, digits, and some punctuation."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name)[:250]
