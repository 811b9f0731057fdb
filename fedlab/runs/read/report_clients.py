"""The section of a report on each client's results."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlab._wording import number, spoken
from fedlab.evaluation.metric_names import STATISTICS, lower_is_better
from fedlab.runs.read import plots
from fedlab.runs.read.recorded import RecordedRun
from fedlab.runs.read.report_parts import Section, picture, section, table, worst_first

_MOST_WORST = 10  # clients in a table


def sections(run: RecordedRun) -> list[Section]:
    """One section for each set that is evaluated per client; without one, the train losses."""
    found = [each for part in run.per_client_parts if (each := _evaluated(run, part))]
    return found or _trained(run)


def _trained(run: RecordedRun) -> list[Section]:
    rows = run.query(
        "SELECT client_id, num_examples, loss, MAX(round) FROM clients "
        "WHERE loss IS NOT NULL AND NOT dropped GROUP BY client_id"
    )
    losses = {client_id: loss for client_id, _, loss, _ in rows if math.isfinite(loss)}
    if not losses:
        return []
    sizes = {client_id: size for client_id, size, _, _ in rows}
    lead = (
        "The train loss of each client when it last took part, measured while it trained. "
        "Evaluate with fedlab.per_client(...) to compare all clients after the same round."
    )
    drawn = _distribution("train", "loss", losses, {}, ("last time", ""))
    worst = _worst("train loss", "loss", losses, {}, sizes)
    return [section("Clients", lead, drawn, [worst])]


def _evaluated(run: RecordedRun, part: str) -> Section | None:
    query = "SELECT DISTINCT round FROM evaluations WHERE part = ? ORDER BY round"
    rounds = [round_num for (round_num,) in run.query(query, part)]
    if not rounds:
        return None
    first, last = rounds[0], rounds[-1]
    now = values(run, part, last)
    before = values(run, part, first) if first < last else {}
    title = f"Clients: {spoken(part)}"
    metrics = [name for name in now if not name.startswith("personal_")]
    if not metrics:
        return section(title, f"No client has a number in round {last}.")
    chosen = next((name for name in metrics if not lower_is_better(name)), metrics[0])
    pictures = []
    for metric in (chosen, f"personal_{chosen}"):
        if now.get(metric):
            labels = (f"round {last}", f"round {first}")
            pictures += _distribution(part, metric, now[metric], before.get(metric, {}), labels)
    row = next(row for row in reversed(run.history) if row["round"] == last)
    lead = f"The global model of round {last}, evaluated on each client of “{spoken(part)}”."
    gains = [
        f"{spoken(metric)} better by {number(row[gain])}"
        for metric in metrics
        if row.get(gain := f"{part}_{metric}_gain") is not None
    ]
    if gains:
        lead += f" Gain from local fine-tuning, weighted by examples: {', '.join(gains)}."
    query = "SELECT client_id, num_examples FROM evaluations WHERE part = ? AND round = ?"
    sizes = dict(run.query(query, part, last))
    worst = _worst(spoken(chosen), chosen, now[chosen], before.get(chosen, {}), sizes)
    head = ["metric", "weighted mean", "unweighted mean", "10th percentile", "median"]
    head += ["90th percentile", "worst tenth"]
    columns = {
        name: [f"{part}_{name}", *(f"{part}_{name}_{s}" for s in STATISTICS)] for name in now
    }
    statistics = table(
        head,
        [
            [spoken(metric), *(number(row.get(column)) for column in names)]
            for metric, names in columns.items()
        ],
        numbers=True,
    )
    return section(title, lead, pictures, [worst, statistics])


def values(run: RecordedRun, part: str, round_num: int) -> dict[str, dict[str, float]]:
    """Returns metric -> client id -> value, for finite values."""
    query = (
        "SELECT metric, client_id, value FROM evaluations "
        "WHERE part = ? AND round = ? AND value IS NOT NULL ORDER BY rowid"
    )
    found: dict[str, dict[str, float]] = {}
    for metric, client_id, value in run.query(query, part, round_num):
        if math.isfinite(value):
            found.setdefault(metric, {})[client_id] = value
    return found


def _distribution(
    part: str,
    metric: str,
    values: Mapping[str, float],
    before: Mapping[str, float],
    labels: tuple[str, str],
) -> list[dict[str, Any]]:
    """Returns a histogram of a metric over clients, or nothing if all are equal.

    Arguments: see `plots.distribution`.
    """
    if len({*values.values(), *before.values()}) < 2:
        return []
    worst = set(worst_first(values, metric)[: math.ceil(len(values) / 10)])
    numbers = np.array([*values.values()])
    figure = plots.distribution(
        numbers,
        spoken(metric),
        np.array([client_id in worst for client_id in values]),
        np.array([*before.values()]) if before else None,
        labels,
    )
    title = f"{spoken(part)}: {spoken(metric)} over {len(values):,} clients"
    about = (
        f"{title}: from {number(float(numbers.min()))} to {number(float(numbers.max()))}, "
        f"mean {number(float(numbers.mean()))}"
    )
    return [picture(figure, f"clients {part} {metric}", title, about)]


def _worst(
    title: str,
    metric: str,
    now: Mapping[str, float],
    before: Mapping[str, float],
    sizes: Mapping[str, float],
) -> dict[str, Any]:
    head = ["worst-served clients", "examples", *([f"{title} before"] if before else []), title]
    rows = [
        [
            client_id,
            number(sizes[client_id]),
            *([number(before.get(client_id))] if before else []),
            number(now[client_id]),
        ]
        for client_id in worst_first(now, metric)[:_MOST_WORST]
    ]
    return table(head, rows, numbers=True)
