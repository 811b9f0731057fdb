"""Logs a run to Weights & Biases."""

import os
import pathlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fedlab import _checks
from fedlab.callbacks._tracker import Tracker, check_text, require

MODES = ("offline", "online")

_open: dict[str, Any] = {}  # run id -> a W&B run of this process that has not ended


class WandB(Tracker):
    """Logs settings, metrics per round and, if asked, the files of a run to Weights & Biases.

    By default everything is stored in the folder `wandb`, and no server is contacted;
    `wandb sync wandb/offline-run-*` uploads it later. The extra `wandb` installs the
    package.

    The configuration has the settings as in config.json, such as
    `optimizer.learning_rate`. A metric is a column of `Run.history`, and its step is the
    round. If a simulation is interrupted and resumed, it continues the W&B run of the same
    id: offline, in a second folder `offline-run-...`, which `wandb sync` adds to the same
    run. An active run of `wandb.init` is not used. No code, output or hardware statistics
    are recorded.

    Args:
      project: the name of the project.
      run_name: the name of the run; by default, that of the run folder.
      entity: the user or team that the project belongs to, for mode "online".
      folder: the folder that contains the folder `wandb`.
      mode: "offline", or "online" to send everything to the server that `wandb login`
        has been called for. The environment variable WANDB_MODE is not read.
      artifacts: whether to store the report, the model, config.json and metrics.csv at
        the end of the run. Needs `run_dir`.

    Attributes:
      run_id: the id of the W&B run, or None before round 0.

    Raises:
      ModuleNotFoundError: wandb is not installed.
      TypeError, ValueError: an argument is wrong.

    Example:
      >>> import fedlab as fl
      >>> tracker = fl.callbacks.WandB("shakespeare")  # doctest: +SKIP
      >>> run = fl.simulate(model, clients, rounds=9, clients_per_round=5, run_dir="runs/a",
      ...                   callbacks=[tracker])  # doctest: +SKIP
    """

    def __init__(
        self,
        project: str = "fedlab",
        *,
        run_name: str | None = None,
        entity: str | None = None,
        folder: str | os.PathLike = ".",
        mode: str = "offline",
        artifacts: bool = False,
    ):
        super().__init__(artifacts, run_name)
        check_text("project", project)
        check_text("entity", entity, none=True)
        check_text("folder", os.fspath(folder))
        if mode not in MODES:
            raise _checks.value_error("mode", mode, f"one of {', '.join(map(repr, MODES))}")
        require("wandb", "fedlab.callbacks.WandB")
        self._project, self._entity = project, entity
        self._folder, self._mode = pathlib.Path(folder), mode
        self.settings = {"project": project, "artifacts": artifacts}
        self._run: Any = None

    def _begin(self, run_id: str | None) -> str:
        # Otherwise wandb reports its own errors to its makers.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        run_id = run_id or secrets.token_hex(8)
        if (left := _open.pop(run_id, None)) is not None:
            left.finish(exit_code=1)  # of a simulation that an error has ended
        mode: Any = self._mode
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            name=self._run_name,
            id=run_id,
            dir=str(self._folder),
            mode=mode,
            config=dict(self._parameters),
            resume="allow" if self._mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                silent=self._mode == "offline",
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
        _open[run_id] = self._run
        return run_id

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log({"round": step, **metrics}, step=step)

    def _finish(self, files: Sequence[pathlib.Path], stopped: str | None) -> None:
        import wandb

        if files:
            artifact = wandb.Artifact(f"run-{self._run_id}", type="fedlab-run")
            for file in files:
                artifact.add_file(str(file))
            self._run.log_artifact(artifact)
        if stopped is not None:
            self._run.summary["stopped"] = stopped
        self._run.finish()
        _open.pop(str(self._run_id), None)
