"""What a study of a paper consists of. Each folder beside this file has one, `study.STUDY`."""

import importlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

FOLDER = pathlib.Path(__file__).resolve().parent
SCALES = ("smoke", "small", "paper")


class Case(NamedTuple):
    """One training run of a study: a row of its table, with one seed.

    Attributes:
      name: such as "fed_adam"; letters, digits, "_", "-" and ".".
      seed: of everything random.
      options: what distinguishes the case, for the study's own `train`.
    """

    name: str
    seed: int
    options: Mapping[str, Any] = {}


class Setup(NamedTuple):
    """What a case needs to know to run.

    Attributes:
      scale: "smoke", "small" or "paper".
      settings: the study's settings of this scale.
      path: the folder of the data's files, or None.
      run_dir: the run folder, for `fedlab.simulate(run_dir=...)`. A case of several runs uses
        folders below it.
      num_workers: for `fedlab.simulate(num_workers=...)`.
    """

    scale: str
    settings: Mapping[str, Any]
    path: pathlib.Path | None
    run_dir: pathlib.Path
    num_workers: int | None


class Outcome(NamedTuple):
    """What a case has measured.

    Attributes:
      history: the history of its run, `fedlab.Run.history`, or [] without one.
      figures: further numbers by name, such as the accuracy of centralized training.
    """

    history: Sequence[Mapping[str, Any]]
    figures: Mapping[str, float] = {}


class Row(NamedTuple):
    """One line of a study's table.

    Attributes:
      name: what the line is about.
      measure: what the numbers are, with the unit, such as "accuracy, %".
      published: the paper's number, a text such as "> 1000", or None.
      values: ours, one per seed; math.inf for a target that was not reached.
      digits: decimals that are shown.
      note: why ours differs, or what to know.
    """

    name: str
    measure: str
    published: float | str | None
    values: Sequence[float]
    digits: int = 1
    note: str = ""


class Verdict(NamedTuple):
    """Whether the claim holds, with the numbers that say so.

    Attributes:
      holds: True, False, or None if the recorded cases cannot tell.
      text: one or two sentences, made from the records.
    """

    holds: bool | None
    text: str


Records = Mapping[str, Sequence[Mapping[str, Any]]]
"""The records of a scale by name of the case, one per seed; see `results`."""


class Study(NamedTuple):
    """A paper's experiment.

    Attributes:
      name: of its folder.
      title: such as "Adaptive Federated Optimization".
      paper: such as "Reddi et al. 2021".
      url: of the paper.
      claim: what the paper says, in one sentence.
      data: which data are used.
      scales: settings by scale. The key "seeds" is a list.
      cases: (settings) -> the cases.
      train: (case, setup) -> Outcome. Called again on the same run folder, it continues.
      rows: (records) -> the lines of the table. Cases may be missing.
      verdict: (records) -> Verdict. Cases may be missing.
      draw: (records, file) writes the figure, as in the paper.
      order: the place in lists.
    """

    name: str
    title: str
    paper: str
    url: str
    claim: str
    data: str
    scales: Mapping[str, Mapping[str, Any]]
    cases: Callable[[Mapping[str, Any]], Sequence[Case]]
    train: Callable[[Case, Setup], Outcome]
    rows: Callable[[Records], Sequence[Row]]
    verdict: Callable[[Records], Verdict]
    draw: Callable[[Records, pathlib.Path], None]
    order: int = 0


def names() -> list[str]:
    """Returns the names of the studies."""
    return sorted(file.parent.name for file in FOLDER.glob("*/study.py"))


def load(name: str) -> Study:
    """Returns the study `name`."""
    study: Study = importlib.import_module(f"experiments.papers.{name}.study").STUDY
    return study


def load_all() -> list[Study]:
    """Returns all studies, in their order."""
    return sorted(map(load, names()), key=lambda study: study.order)
