"""The beginning of a report: a sentence that says what was done, and the main numbers."""

import statistics
from typing import Any

from fedlab._wording import duration, number, size, spoken
from fedlab.runs.read import chosen, report_model, results
from fedlab.runs.read.recorded import RecordedRun

_MOST_CHANGES = 6
_MOST_KINDS = 4  # of layers that are listed


def sentences(run: RecordedRun) -> list[str]:
    """Returns sentences: what was trained, how, on how many clients, and what it gained."""
    algorithm, explained = chosen.method(run.config)
    aside = f" ({explained})" if explained else ""
    done, asked = run.rounds_done, run.config.get("rounds")
    rounds = f"{number(done)} round{'' if done == 1 else 's'}"
    if not run.finished and asked and asked > done:
        rounds = f"{number(done)} of {number(asked)} rounds so far"
    clients = run.config.get("num_clients")
    on = f" on {number(clients)} client{'' if clients == 1 else 's'}" if clients else ""
    cohort = run.config.get("cohort")
    per_round = cohort.get("clients_per_round") if isinstance(cohort, dict) else None
    if on and isinstance(per_round, int):
        on += f", {number(per_round)} per round"
    seconds = run.total("seconds")
    took = f", in {duration(seconds)} of training" if seconds else ""
    found = [f"{_model(run)} was trained with {algorithm}{aside}{on}, for {rounds}{took}."]
    changes = results.main_changes(run)
    if changes:
        found.append(f"{changes[0].sentence(results.about(run, changes[0].part))}.")
    elif losses := run.curve("train_loss")[1][:1]:
        last = run.curve("train_loss")[1][-1]
        change = results.Change("training clients", "loss", losses[0], last)
        found.append(f"No evaluation set was given. {change.sentence()}.")
    return found


def _model(run: RecordedRun) -> str:
    name, count = report_model.name(run), report_model.num_parameters(run)
    kinds = run.config.get("model")
    text = f"The model “{name}”" if name else "A Keras model"
    about = []
    if count:
        about.append(f"{number(count)} parameters")
        if frozen := report_model.num_frozen(run):
            about.append(f"{number(frozen)} of them not trained")
    if isinstance(kinds, list) and kinds:
        layers = [str(kind) for kind in kinds if kind != "InputLayer"]
        distinct = list(dict.fromkeys(layers))
        if len(layers) <= _MOST_KINDS:
            about.append(f"layers {', '.join(layers)}")
        else:
            about.append(f"{number(len(layers))} layers")
            if len(distinct) <= _MOST_KINDS:
                about[-1] += f" of kinds {', '.join(distinct)}"
    return f"{text} ({'; '.join(about)})" if about else text


def tiles(run: RecordedRun) -> list[dict[str, Any]]:
    """Returns the numbers at the top of the page.

    Returns:
      A list of dicts: title, value, and if it is a change before, difference and verdict
      ("better", "worse", "no change" or ""); remarks, a list.
    """
    changes: list[results.Change] = results.main_changes(run)
    found: list[dict[str, Any]] = []
    best = run.results()
    for change in changes[:_MOST_CHANGES]:
        remarks = []
        if change.column is not None and (top := best[change.column])["best"] != change.after:
            remarks.append(f"best: {number(top['best'])} in round {top['best_round']}")
        found.append(
            {
                "title": change.title,
                "value": number(change.after),
                "before": number(change.before),
                "difference": change.difference,
                "verdict": change.verdict,
                "remarks": remarks,
            }
        )
    if seconds := run.total("seconds"):
        found.append(_tile("training time", duration(seconds), *_time_remarks(run)))
    down, up = run.total("bytes_down"), run.total("bytes_up")
    if down + up:
        remark = f"{size(down)} to clients, {size(up)} from them, in a real deployment"
        found.append(_tile("would be sent", size(down + up), remark))
    if epsilons := run.curve("epsilon")[1]:
        found.append(_tile("privacy spent", f"ε = {number(epsilons[-1])}", "after the last round"))
    return found


def _tile(title: str, value: str, *remarks: str) -> dict[str, Any]:
    return {"title": title, "value": value, "before": None, "remarks": remarks}


def _time_remarks(run: RecordedRun) -> list[str]:
    seconds = run.curve("seconds")[1]
    per_round = duration(statistics.median(seconds[1:] or seconds))
    remarks = [f"{per_round} per round, without evaluation"]
    if extra := compilation_seconds(run):
        remarks.append(f"about {duration(extra)} went into compiling the graph")
    return remarks


def compilation_seconds(run: RecordedRun) -> float:
    """Returns about how long the first round compiled graphs; 0 if that is not noticeable.

    That is by how much the first round was longer than the median of the others. Of fewer
    than three other rounds nothing can be said.
    """
    rounds, seconds = run.curve("seconds")
    if len(seconds) < 4 or rounds[0] != 1:
        return 0.0
    typical = statistics.median(seconds[1:])
    extra = seconds[0] - typical
    return extra if extra > 0.5 * typical else 0.0


def title(run: RecordedRun) -> str:
    """Returns the state of the run in words."""
    rounds = run.config.get("rounds")
    state = "finished" if run.finished else "not finished"
    of = f" of {number(rounds)}" if rounds else ""
    return f"{state}: {number(run.rounds_done)}{of} {spoken('rounds')}"
