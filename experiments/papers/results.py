"""The records of cases: written when a case is done, and kept with the study.

A record is a dict:

  case, seed: of the `Case`
  settings: the study's settings of the scale
  versions: of Python, fedlab, TensorFlow and Keras
  cores: that the case could use
  seconds: the case took, evaluation included
  columns: names, the first of which is "round"
  rows: for each evaluated round, a list of numbers or None
  figures: further numbers by name

`<study>/<scale>.json` holds the records from which tables and figures are made.
"""

import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.bench import machine
from experiments.papers.study import FOLDER, Case, Outcome, Records, Study

_PACKAGES = {"fedlab": "fedlab-keras", "tensorflow": "tensorflow", "keras": "keras"}


def record(
    case: Case, settings: Mapping[str, Any], outcome: Outcome, seconds: float
) -> dict[str, Any]:
    """Returns the record of a case.

    Args:
      case, settings, outcome: see `study`.
      seconds: how long the case took. The time of the rounds counts instead, if they took
        longer because the case was interrupted.
    """
    evaluated = [
        name for row in outcome.history for name, value in row.items() if value is not None
    ]
    columns = [name for name in dict.fromkeys(evaluated) if _is_kept(name)]
    # Round 0 has nothing but an evaluation. Its metrics tell the evaluated rounds.
    metrics = [name for name in next(iter(outcome.history), {}) if name not in ("round", "seconds")]
    rows = [row for row in outcome.history if any(row.get(name) is not None for name in metrics)]
    rounds = sum(row.get("seconds") or 0.0 for row in outcome.history)
    return {
        "case": case.name,
        "seed": case.seed,
        "settings": json.loads(json.dumps(settings)),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(found) for name, found in _PACKAGES.items()},
        },
        "cores": machine.num_cores(),
        "seconds": round(max(seconds, rounds), 1),
        "columns": columns,
        "rows": [[_rounded(row.get(name)) for name in columns] for row in rows],
        "figures": {name: _rounded(value) for name, value in outcome.figures.items()},
    }


def read(file: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a file, or [] if there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def write(file: pathlib.Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes records, one per line."""
    lines = [json.dumps(each, separators=(",", ":")) for each in records]
    temporary = file.with_suffix(".tmp")
    temporary.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    os.replace(temporary, file)


def merge(file: pathlib.Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Adds records to a file. They replace those of the same case and seed.

    Raises:
      ValueError: the file's records have other settings.
    """
    for old in read(file):
        if old["settings"] != records[0]["settings"]:
            changed = [
                name
                for name in {**old["settings"], **records[0]["settings"]}
                if old["settings"].get(name) != records[0]["settings"].get(name)
            ]
            raise ValueError(
                f"{file}: its records have other settings ({', '.join(sorted(changed))}); delete "
                "the file to start anew"
            )
    found = {(each["case"], each["seed"]): each for each in [*read(file), *records]}
    write(file, [found[key] for key in sorted(found)])


def by_case(records: Sequence[Mapping[str, Any]]) -> Records:
    """Returns the records by name of the case, ordered by seed."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in sorted(records, key=lambda each: (each["case"], each["seed"])):
        found.setdefault(each["case"], []).append(each)
    return found


def kept(study: Study, scale: str) -> pathlib.Path:
    """Returns the file of the records that are kept with a study."""
    return FOLDER / study.name / f"{scale}.json"


def _is_kept(name: str) -> bool:
    left_out = ("seconds", "examples", "clients_", "bytes_", "train_", "epsilon")
    return name == "train_loss" or not name.startswith(left_out)


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
