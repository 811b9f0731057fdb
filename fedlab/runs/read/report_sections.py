"""The sections of a report: pictures, tables and texts made from a recorded run."""

import base64
import itertools
import math
import pathlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _json
from fedlab._text import is_unicode
from fedlab._wording import number, size, spoken, unit
from fedlab.data import description, description_json
from fedlab.evaluation.metric_names import STATISTICS, lower_is_better
from fedlab.runs.read import data_plots, plots, run_settings
from fedlab.runs.read.recorded import RecordedRun

SAMPLES = "samples.json"
_MOST_WORST = 10  # clients in a table

Section = dict[str, Any]


def sections(run: RecordedRun) -> list[Section]:
    """Returns the sections of a report, without empty ones, as the template shows them."""
    found = [
        _curves(run),
        *_clients(run),
        _data(run),
        _participation(run),
        _bytes(run),
        _privacy(run),
        _samples(run),
        _probe(run),
    ]
    return [section for section in found if section]


def check_samples(samples: Any, received: str) -> None:
    """Raises ValueError if samples are not a list of {"title": str, "text": str}.

    Args:
      samples: the samples.
      received: the beginning of the error message.
    """
    if not isinstance(samples, list) or not all(
        isinstance(each, dict)
        and all(
            isinstance(each.get(name), str) and is_unicode(each[name]) for name in ("title", "text")
        )
        for each in samples
    ):
        raise ValueError(
            f'{received}{samples!r:.60}: expected a list of {{"title": str, "text": str}}'
        )


def _section(
    title: str,
    lead: str = "",
    pictures: Iterable[dict] = (),
    tables: Iterable[dict] = (),
    texts: Iterable[dict] = (),
) -> Section:
    return {
        "title": title,
        "lead": lead,
        "pictures": list(pictures),
        "tables": list(tables),
        "texts": list(texts),
    }


def _picture(figure: Any, name: str, title: str) -> dict[str, Any]:
    import markupsafe

    # matplotlib has escaped the texts in it.
    return {"title": title, "svg": markupsafe.Markup(plots.svg(figure, name))}


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    return {"head": head, "rows": list(rows)}


def _curves(run: RecordedRun) -> Section:
    """One picture for each metric and axis, with one curve for each set."""
    groups: dict[str, list[str]] = {}
    for column in run.metrics:
        groups.setdefault(run.split(column)[1].removeprefix("personal_"), []).append(column)
    pictures, colours = [], {}
    for metric, columns in groups.items():
        finite = [name for name in columns if any(map(math.isfinite, run.curve(name)[1]))]
        for xlabel, places in _axes(run).items() if finite else ():
            series = [_series(run, column, places, colours) for column in finite]
            figure = plots.curves(series, xlabel, spoken(metric))
            title = f"{spoken(metric)} by {xlabel}"
            pictures.append(_picture(figure, f"curve {metric} {xlabel}", title))
    if not pictures:
        return _section("Learning curves", "No round is evaluated yet.")
    lead = (
        "Round 0 is before training. Seconds are training time, without evaluation; the first "
        "round includes building the graphs. Bytes are the sum of both directions."
    )
    if run.per_client_parts:
        lead += " Bands span the 10th to the 90th percentile over clients."
    kinds = _table(["set", "what it is"], [(part, _kind(run, part)) for part in run.parts])
    return _section("Learning curves", lead, pictures, [kinds])


def _series(
    run: RecordedRun, column: str, places: Mapping[int, float], colours: dict[str, int]
) -> plots.Series:
    """Returns the curve of a column. A set has the same colour in every picture."""
    rounds, values = run.curve(column)
    part, name = run.split(column)
    label = part + (" (fine-tuned)" if name.startswith("personal_") else "")
    bands = [dict(zip(*run.curve(f"{column}_{end}"))) for end in ("p10", "p90")]
    low, high = ([band.get(r, math.nan) for r in rounds] if band else None for band in bands)
    colour = colours.setdefault(label, len(colours))
    return plots.Series(label, [places[r] for r in rounds], values, low, high, colour)


def _axes(run: RecordedRun) -> dict[str, dict[int, float]]:
    """Returns axis -> round -> position, for the axes that the run has numbers for."""
    axes = {"round": run.places("round")}
    if sent := run.total("bytes_down") + run.total("bytes_up"):
        divisor, name = unit(sent)
        axes[f"{name} sent"] = {r: place / divisor for r, place in run.places("bytes").items()}
    if run.total("seconds"):
        axes["seconds"] = run.places("seconds")
    return axes


def _kind(run: RecordedRun, part: str) -> str:
    """Returns what a set is, in words."""
    if part == "train":
        return "the training examples of each round's clients, measured while they train"
    about = run.config["evaluation_examples"][part]
    if isinstance(about, int):
        return f"{number(about)} examples, evaluated centrally"
    if part in run.per_client_parts:
        tuned = "; fine-tuned: after training on local examples" if "local" in about else ""
        clients = number(about["clients"])
        return f"{clients} clients, evaluated one by one; means are weighted by examples{tuned}"
    if isinstance(about, dict) and {"local", "test"} == about.keys():
        test = number(about["test"])
        return f"clients that first fine-tune on local examples; {test} test examples"
    if isinstance(about, dict) and "name" in about:
        numbers = ", ".join(
            f"{spoken(name)} {number(value)}"
            for name, value in about.items()
            if type(value) in (int, float)
        )
        return f"{about['name']}: {numbers}" if numbers else about["name"]
    return "a user function"


def _clients(run: RecordedRun) -> list[Section | None]:
    """One section for each set that is evaluated per client; without one, the train losses."""
    found = [_evaluated_clients(run, part) for part in run.per_client_parts]
    if any(found):
        return found
    rows = run.query(
        "SELECT client_id, loss, MAX(round) FROM clients "
        "WHERE loss IS NOT NULL AND NOT dropped GROUP BY client_id"
    )
    losses = {client_id: loss for client_id, loss, _ in rows if math.isfinite(loss)}
    if not losses:
        return []
    lead = "The train loss of each client when it last took part. No set is evaluated per client."
    picture = _distribution("train", "loss", losses, {}, ("last time", ""))
    return [_section("Over clients", lead, [picture], [_worst_clients("loss", losses, {})])]


def _evaluated_clients(run: RecordedRun, part: str) -> Section | None:
    query = "SELECT DISTINCT round FROM evaluations WHERE part = ? ORDER BY round"
    rounds = [round_num for (round_num,) in run.query(query, part)]
    if not rounds:
        return None
    first, last = rounds[0], rounds[-1]
    now, before = _values(run, part, last), _values(run, part, first)
    title = f"Over clients: {part}"
    metrics = [name for name in now if not name.startswith("personal_")]
    if not metrics:
        return _section(title, f"No client has a number in round {last}.")
    chosen = next((name for name in metrics if not lower_is_better(name)), metrics[0])
    pictures = []
    for metric in (chosen, f"personal_{chosen}"):
        if now.get(metric):
            earlier = before.get(metric, {}) if first < last else {}
            labels = (f"round {last}", f"round {first}")
            pictures.append(_distribution(part, metric, now[metric], earlier, labels))
    row = next(row for row in reversed(run.history) if row["round"] == last)
    lead = f"The global model of round {last}, evaluated on each client of “{part}” separately."
    gains = [
        f"{spoken(metric)} better by {number(row[gain])}"
        for metric in metrics
        if row.get(gain := f"{part}_{metric}_gain") is not None
    ]
    if gains:
        lead += f" Gain from local fine-tuning, weighted by examples: {', '.join(gains)}."
    head = ["metric", "weighted mean", "unweighted mean", "10th percentile", "median"]
    head += ["90th percentile", "worst tenth"]
    columns = {
        name: [f"{part}_{name}", *(f"{part}_{name}_{s}" for s in STATISTICS)] for name in now
    }
    statistics = _table(
        head,
        [
            [spoken(metric), *(number(row.get(column)) for column in names)]
            for metric, names in columns.items()
        ],
    )
    query = "SELECT client_id, num_examples FROM evaluations WHERE part = ? AND round = ?"
    sizes = dict(run.query(query, part, last))
    worst = _worst_clients(chosen, now[chosen], sizes)
    return _section(title, lead, pictures, [statistics, worst])


def _values(run: RecordedRun, part: str, round_num: int) -> dict[str, dict[str, float]]:
    """Returns metric -> client id -> value, for finite values."""
    query = (
        "SELECT metric, client_id, value FROM evaluations "
        "WHERE part = ? AND round = ? AND value IS NOT NULL ORDER BY rowid"
    )
    values: dict[str, dict[str, float]] = {}
    for metric, client_id, value in run.query(query, part, round_num):
        if math.isfinite(value):
            values.setdefault(metric, {})[client_id] = value
    return values


def _worst_first(values: Mapping[str, float], metric: str) -> list[str]:
    return sorted(values, key=values.__getitem__, reverse=lower_is_better(metric))


def _distribution(
    part: str,
    metric: str,
    values: Mapping[str, float],
    before: Mapping[str, float],
    labels: tuple[str, str],
) -> dict[str, Any]:
    """Returns a histogram of a metric over clients. Arguments: see `plots.distribution`."""
    worst = set(_worst_first(values, metric)[: math.ceil(len(values) / 10)])
    figure = plots.distribution(
        np.array([*values.values()]),
        spoken(metric),
        np.array([client_id in worst for client_id in values]),
        np.array([*before.values()]) if before else None,
        labels,
    )
    title = f"{part}: {spoken(metric)} over {len(values):,} clients"
    return _picture(figure, f"clients {part} {metric}", title)


def _worst_clients(
    metric: str, values: Mapping[str, float], sizes: Mapping[str, float]
) -> dict[str, Any]:
    head = ["clients with the worst values", *(["examples"] if sizes else []), spoken(metric)]
    return _table(
        head,
        [
            [name, *([number(sizes[name])] if sizes else []), number(values[name])]
            for name in _worst_first(values, metric)[:_MOST_WORST]
        ],
    )


def _data(run: RecordedRun) -> Section | None:
    file = run.path / description_json.FILE
    if not file.is_file():
        return None
    try:
        found = description_json.read(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it") from None
    lead = "What the clients have."
    if len(found.client_ids) < found.num_clients:
        lead += f" Numbers are those of {len(found.client_ids):,} clients, chosen at random."
    if found.kind == "classes":
        lead += (
            " The earth mover's distance of a client is the sum over labels of |its share - the "
            "share at all clients|: 0 for the same mixture of labels, at most 2."
        )
    elif found.kind == "numbers":
        lead += (
            " The earth mover's distance of a client is the area between the quantile functions "
            "of its labels and of all labels, in standard deviations of all labels."
        )
    pictures = [
        {**_picture(each.figure, f"data {i}", each.title), "long": each.wide}
        for i, each in enumerate(data_plots.pictures(found))
    ]
    counts = _table(["data", ""], description.counts_of_all(found))
    tables = [description.quantile_rows(found), description.column_rows(found)]
    if found.kind:
        tables.append(description.label_rows(found))
    return _section(
        "Data", lead, pictures, [counts, *(_table(head, rows) for head, *rows in tables)]
    )


def _participation(run: RecordedRun) -> Section | None:
    counts = dict(
        run.query(
            "SELECT n, COUNT(*) FROM "
            "(SELECT SUM(dropped IS NOT 1) n FROM clients GROUP BY client_id) GROUP BY n"
        )
    )
    if not counts:
        return None
    num_clients = run.config.get("num_clients") or sum(counts.values())
    counts[0] = counts.get(0, 0) + max(0, num_clients - sum(counts.values()))
    times = [*range(max(counts) + 1)]
    heights = {"clients": [counts.get(n, 0) for n in times]}
    taken = plots.bars(times, heights, "rounds that a client finished", "clients")
    rounds = [row for row in run.history if "clients_asked" in row]
    heights = {end: [row[f"clients_{end}"] for row in rounds] for end in ("finished", "dropped")}
    if not any(heights["dropped"]):
        del heights["dropped"]
    cohorts = plots.bars([row["round"] for row in rounds], heights, "round", "clients")
    reasons = run.query(
        "SELECT reason, COUNT(*) FROM clients WHERE dropped = 1 GROUP BY reason ORDER BY 2 DESC"
    )
    rows = [(reason, f"{n:,}") for reason, n in reasons]
    none = f", {counts[0]:,} have not yet" if counts[0] else ""
    ends = ", finished and dropped" if len(heights) > 1 else ""
    return _section(
        "Participation",
        f"{num_clients - counts[0]:,} of {num_clients:,} clients have finished a round{none}.",
        [
            _picture(taken, "participation", "How often clients took part"),
            _picture(cohorts, "cohorts", f"Clients of each round{ends}"),
        ],
        [_table(["why clients were dropped", "times"], rows)] if rows else [],
    )


def _bytes(run: RecordedRun) -> Section | None:
    totals = {end: run.total(f"bytes_{end}") for end in ("down", "up")}
    if not any(totals.values()):
        return None
    divisor, name = unit(max(totals.values()))
    series = []
    for end in totals:
        rounds, values = run.curve(f"bytes_{end}")
        so_far = [total / divisor for total in itertools.accumulate(values)]
        series.append(plots.Series(end, rounds, so_far))
    lead = (
        f"{size(totals['down'])} to clients and {size(totals['up'])} from them: the weights as "
        "the algorithm and the aggregator send them."
    )
    figure = plots.curves(series, "round", f"{name} so far")
    return _section("Communication", lead, [_picture(figure, "bytes", "Sent so far")])


def _privacy(run: RecordedRun) -> Section | None:
    rounds, values = run.curve("epsilon")
    if not values:
        return None
    finite = math.isfinite(values[-1])
    lead = f"ε = {number(values[-1])} after round {rounds[-1]}"
    lead += "." if finite else ": there is no privacy without noise."
    settings = run_settings.flat(run.config).items()
    rows = [
        (name, run_settings.shown(name, v)) for name, v in settings if name[:10] == "aggregator"
    ]
    pictures = []
    if any(map(math.isfinite, values)):
        figure = plots.curves([plots.Series("ε", rounds, values)], "round", "ε so far")
        pictures = [_picture(figure, "epsilon", "Privacy spent")]
    return _section("Privacy", lead, pictures, [_table(["setting", "value"], rows)])


def _samples(run: RecordedRun) -> Section | None:
    file = run.path / SAMPLES
    if not file.is_file():
        return None
    try:
        samples = _json.read(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it or write it again") from None
    check_samples(samples, f"{file} holds ")
    return _section("Samples", texts=samples)


def _probe(run: RecordedRun) -> Section | None:
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for file in _probe_files(run, folder):
            source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
            # Outputs per token are too wide to stand beside another picture.
            long = "output" in file.stem
            title = file.stem.replace("_", " ")
            pictures.append({"title": title, "source": source, "long": long})
    lead = "Outputs of the global model on a few fixed examples, round by round."
    return _section("Probe", lead, pictures) if pictures else None


def _probe_files(run: RecordedRun, folder: str) -> list[pathlib.Path]:
    from fedlab.tasks.question_answering import probe, probe_plot

    if (run.path / probe.FILE).is_file():
        return probe_plot.draw(probe.read(run.path), folder)
    return sorted(run.path.glob("probe_*.png"))
