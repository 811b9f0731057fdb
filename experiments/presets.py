"""Runs of a study's presets, the files *.flags in its folder."""

import pathlib
from collections.abc import Sequence

from absl import logging

from experiments import common
from fedlab.cli.flags import UsageError, check_folder


def check(presets: Sequence[str], study: pathlib.Path, folder: str) -> None:
    """Raises UsageError if a preset or the folder cannot be used.

    Args:
      presets: the value of --presets.
      study: the folder of the study.
      folder: the value of --folder.
    """
    unknown = [preset for preset in presets if not (study / f"{preset}.flags").is_file()]
    if unknown or not presets:
        known = ", ".join(sorted(file.stem for file in study.glob("*.flags")))
        raise UsageError(f"--presets={','.join(presets)}: expected some of {known}")
    check_folder("folder", folder)


def complete(
    study: pathlib.Path,
    preset: str,
    arguments: Sequence[str],
    path: str | None,
    folder: pathlib.Path,
    name: str | None = None,
) -> list[dict[str, str]]:
    """Completes the run of a preset, in its own process; returns the rows of its metrics.csv.

    Args:
      study: the folder of the study, whose run.py runs.
      preset: the name of its flag file.
      arguments: further flags, which win over those of the preset.
      path: the folder of the data's files, or None.
      folder: where the run folder and the log are.
      name: of the run folder; by default, that of the preset.

    Raises:
      ValueError: the run failed.
    """
    name = name or preset
    arguments = [f"--flagfile={study / preset}.flags", *arguments]
    arguments += [f"--path={pathlib.Path(path).resolve()}"] if path else []
    arguments.append(f"--run_dir={folder / name}")
    log = folder / f"{name}.log"
    logging.info("%s runs, with its output in %s: %s", name, log, " ".join(arguments))
    common.run_module(f"experiments.{study.name}.run", arguments, log)
    return common.read_table(folder / name / "metrics.csv")
