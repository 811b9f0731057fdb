"""What a run has gained: its main evaluation before and after training.

The main evaluation is the comparison in comparison.json, if the run has one, because it is
usually larger than the sets that are evaluated during training. Otherwise it is the
evaluation sets in the order of `evaluate_on`.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedlab import _checks, _files, _json
from fedlab._text import is_unicode
from fedlab._wording import number, spoken
from fedlab.evaluation.metric_names import lower_is_better
from fedlab.runs.read.recorded import RecordedRun

FILE = "comparison.json"
_FORM = '{set: {"before": {metric: number}, "after": {metric: number}}}'
_COUNTS = ("examples", "clients", "training")


class Change(NamedTuple):
    """A metric of an evaluation set before and after training.

    Attributes:
      part: the evaluation set.
      metric: the metric.
      before, after: its values.
      column: the column of metrics.csv, or None for a comparison.
    """

    part: str
    metric: str
    before: float
    after: float
    column: str | None = None

    @property
    def title(self) -> str:
        """The metric and the set in words."""
        return f"{spoken(self.metric)} on {spoken(self.part)}"

    @property
    def verdict(self) -> str:
        """ "better", "worse", or "no change" if the change has no direction."""
        if not math.isfinite(self.after - self.before) or self.after == self.before:
            return "no change" if self.after == self.before else ""
        return "better" if (self.after < self.before) == lower_is_better(self.metric) else "worse"

    @property
    def difference(self) -> str:
        """The difference with its sign, or "" if there is none."""
        difference = self.after - self.before
        if not math.isfinite(difference) or not difference:
            return ""
        size = abs(difference)
        return f"{'+' if difference > 0 else '−'}{number(size) if size >= 100 else f'{size:.3g}'}"

    def sentence(self, about: str = "") -> str:
        """Returns the change as a sentence without a period.

        Args:
          about: what the set is, or "".
        """
        title = self.title[:1].upper() + self.title[1:] + (f" ({about})" if about else "")
        if not self.difference:
            return f"{title} did not change: it is {number(self.after)}"
        verb = "rose" if self.after > self.before else "fell"
        worse = ", which is worse" if self.verdict == "worse" else ""
        numbers = f"from {number(self.before)} to {number(self.after)}"
        return f"{title} {verb} {numbers} ({self.difference}){worse}"


def write_comparison(path: str | os.PathLike, comparison: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds a comparison before and after training to a run folder and to its report.

    Use it for an evaluation that is too large to be repeated in every round. It becomes
    the main result of the report.

    Args:
      path: the run folder.
      comparison: set -> {"before": {metric: number}, "after": {metric: number}}, in
        addition optionally "examples", the number of examples; "clients", the number of
        clients that they come from; and "training", how many of these clients may train.

    Raises:
      ValueError: `comparison` has another form.
      FileNotFoundError: there is no run folder.
    """
    from fedlab.runs.read import report

    path = pathlib.Path(path)
    check_comparison(comparison, "comparison=")
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run folder {str(path)!r}: check the path")
    text = json.dumps(comparison, ensure_ascii=False, indent=1)
    _files.write(path / FILE, text.encode())
    if report.missing() is None:
        report.write_report(path)


def check_comparison(comparison: Any, received: str) -> None:
    """Raises ValueError if a comparison has another form; `received` begins the message."""
    if not isinstance(comparison, Mapping) or not all(
        isinstance(name, str) and is_unicode(name) and _is_change(each)
        for name, each in comparison.items()
    ):
        raise ValueError(f"{received}{comparison!r:.60}: expected {_FORM}")


def _is_change(about: Any) -> bool:
    if not isinstance(about, Mapping):
        return False
    before, after = about.get("before"), about.get("after")
    return (
        isinstance(before, Mapping)
        and isinstance(after, Mapping)
        and before.keys() == after.keys()
        and all(isinstance(name, str) and is_unicode(name) for name in before)
        and all(map(_checks.is_number, [*before.values(), *after.values()]))
        and all(
            about.get(name) is None or _checks.is_int(about[name], 0, 10**18) for name in _COUNTS
        )
    )


def read_comparison(run: RecordedRun) -> dict[str, dict[str, Any]]:
    """Returns the comparison of a run, {} without one.

    Raises:
      ValueError: comparison.json is damaged.
    """
    file = run.path / FILE
    if not file.is_file():
        return {}
    try:
        comparison = _json.read(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it or write it again") from None
    check_comparison(comparison, f"{file} holds ")
    return comparison


def main_changes(run: RecordedRun) -> list[Change]:
    """Returns the metrics of the main evaluation before and after training."""
    if comparison := read_comparison(run):
        compared = [
            Change(part, metric, about["before"][metric], about["after"][metric])
            for part, about in comparison.items()
            for metric in about["after"]
        ]
        return _sorted(run, compared)
    found = []
    for column in run.metrics:
        part, metric = run.split(column)
        rounds, values = run.curve(column)
        if part != "train" and len(rounds) > 1 and not _is_probe(run, part):
            found.append(Change(part, metric, values[0], values[-1], column))
    return _sorted(run, found)


def _is_probe(run: RecordedRun, part: str) -> bool:
    """Whether a set is a few examples of which the outputs are recorded."""
    about = run.config["evaluation_examples"][part]
    return isinstance(about, dict) and about.get("name") == "probe"


def _sorted(run: RecordedRun, changes: list[Change]) -> list[Change]:
    """Returns the sets in their order, the training data last, and scores before losses."""
    parts = list(dict.fromkeys(change.part for change in changes))
    parts.sort(key=lambda part: is_training_data(run, part))
    return sorted(changes, key=lambda each: (parts.index(each.part), lower_is_better(each.metric)))


def about(run: RecordedRun, part: str) -> str:
    """Returns which examples a set has, or "" if that is not known."""
    if (compared := read_comparison(run).get(part)) is not None:
        return "" if compared.get("examples") is None else examples(compared["examples"], compared)
    if part not in run.parts or not isinstance(run.config["evaluation_examples"][part], int):
        return ""
    return explanation(run, part)


def is_training_data(run: RecordedRun, part: str) -> bool:
    """Whether an evaluation set is the training data themselves."""
    data = run.config.get("evaluation_data")
    found = data.get(part) if isinstance(data, dict) else None
    return found is not None and found == run.config.get("training_data")


def explanation(run: RecordedRun, part: str) -> str:
    """Returns what a set is, in words."""
    if part == "train":
        return "the training examples of each round's clients, measured while they train"
    about = run.config["evaluation_examples"][part]
    counts = (run.config.get("evaluation_clients") or {}).get(part)
    if isinstance(about, int):
        if is_training_data(run, part):
            return f"{examples(about, counts)}: the training data themselves"
        return examples(about, counts)
    if part in run.per_client_parts:
        tuned = "; fine-tuned: after training on local examples" if "local" in about else ""
        clients = number(about["clients"])
        whose = f" ({which(counts)})" if counts else ""
        return (
            f"{clients} clients{whose}, evaluated one by one; means are weighted by examples{tuned}"
        )
    if isinstance(about, dict) and {"local", "test"} == about.keys():
        test = number(about["test"])
        whose = f" of {number(counts['clients'])} clients, {which(counts)}" if counts else ""
        return f"clients that first fine-tune on local examples; {test} test examples{whose}"
    if isinstance(about, dict) and "name" in about:
        numbers = ", ".join(
            f"{spoken(name)} {number(value)}"
            for name, value in about.items()
            if type(value) in (int, float)
        )
        return f"{about['name']}: {numbers}" if numbers else about["name"]
    return "a user function"


def examples(num_examples: int, counts: Mapping[str, Any] | None) -> str:
    """Returns for example "60 examples of 57 clients, none of which trains"."""
    text = f"{number(num_examples)} example{'' if num_examples == 1 else 's'}"
    if not counts or counts.get("clients") is None:
        return text
    clients = f"{number(counts['clients'])} client{'' if counts['clients'] == 1 else 's'}"
    return f"{text} of {clients}" + (
        f", {which(counts)}" if counts.get("training") is not None else ""
    )


def which(counts: Mapping[str, int]) -> str:
    """Returns for example "none of which trains"."""
    if not counts["training"]:
        return "none of which trains"
    if counts["training"] == counts["clients"]:
        return "all of which may train"
    return f"{number(counts['training'])} of which may train"
