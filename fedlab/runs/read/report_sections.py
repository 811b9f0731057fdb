"""The sections of a report: pictures, tables and texts made from a recorded run."""

import base64
import itertools
import math
import pathlib
import tempfile
from typing import Any

from fedlab import _json
from fedlab._text import is_unicode
from fedlab._wording import number, size, spoken, unit
from fedlab.data import description, description_json
from fedlab.data import plots as data_plots
from fedlab.runs.read import plots, report_clients, report_curves, report_model, run_settings
from fedlab.runs.read.recorded import RecordedRun
from fedlab.runs.read.report_parts import Section, picture, section, table

SAMPLES = "samples.json"


def sections(run: RecordedRun) -> list[Section]:
    """Returns the sections of a report, without empty ones, as the template shows them."""
    found = [
        _samples(run),
        report_curves.learning_curves(run),
        *report_clients.sections(run),
        _model(run),
        _data(run),
        _participation(run),
        _bytes(run),
        _privacy(run),
        _probe(run),
    ]
    return [each for each in found if each]


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


def _model(run: RecordedRun) -> Section | None:
    layers, others = report_model.layers(run)
    if not layers:
        return None
    lead = []
    if count := report_model.num_parameters(run):
        lead.append(f"{number(count)} parameters.")
    if any(layer["output"] for layer in layers):
        lead.append("Shapes are those of one example's output; * stands for any length.")
    if any(layer["frozen"] for layer in layers):
        lead.append("Frozen layers keep their weights, which are not sent.")
    if others:
        what = f"{number(others)} more layer{'' if others == 1 else 's'}"
        lead.append(
            f"{what}, mostly without parameters, {'is' if others == 1 else 'are'} left out."
        )
    return section("Model", " ".join(lead), layers=layers)


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
    drawn = data_plots.pictures(found)
    sizes = {*found.num_examples.tolist()}
    if len(sizes) == 1:
        lead += f" Every client has {number(sizes.pop())} examples."
        drawn = drawn[1:]
    if found.kind and not found.distances[found.distances > 1e-9].size:
        lead += " All clients have the same mixture of labels."
        drawn = drawn[:-2]
    pictures = [
        picture(each.figure, f"data {i}", each.title, _about_data(found, each.title), each.wide)
        for i, each in enumerate(drawn)
    ]
    counts = table(["data", ""], description.counts_of_all(found))
    head, *rows = description.quantile_rows(found)
    tables = [counts, table(head, rows, numbers=True)]
    more = [_more_data("Columns", description.column_rows(found))]
    if found.kind:
        more.append(_more_data("Labels", description.label_rows(found)))
    return section("Data", lead, pictures, tables, more=more)


def _more_data(title: str, rows: Any) -> Section:
    head, *rows = rows
    return section(title, tables=[table(head, rows, numbers=title == "Labels")])


def _about_data(found: description.Description, title: str) -> str:
    if title != "Examples per client":
        return title
    quantiles = found.quantiles
    return (
        f"Histogram of the number of examples per client: from {number(quantiles['min'])} to "
        f"{number(quantiles['max'])}, median {number(quantiles['median'])}"
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
    none = f", {counts[0]:,} have not yet" if counts[0] else ""
    lead = [f"{num_clients - counts[0]:,} of {num_clients:,} clients have finished a round{none}."]
    pictures = []
    times = [*range(max(counts) + 1)]
    if sum(count > 0 for count in counts.values()) > 1:
        heights = {"clients": [counts.get(n, 0) for n in times]}
        taken = plots.bars(times, heights, "rounds that a client finished", "clients")
        pictures.append(picture(taken, "participation", "How often clients took part"))
    else:
        (same,) = (n for n, count in counts.items() if count)
        lead.append(f"Every client finished {number(same)} round{'' if same == 1 else 's'}.")
    rounds = [row for row in run.history if "clients_asked" in row]
    heights = {end: [row[f"clients_{end}"] for row in rounds] for end in ("finished", "dropped")}
    if len({*zip(*heights.values())}) == 1:
        finished, dropped = (values[0] for values in heights.values())
        text = f"{number(finished)} client{'' if finished == 1 else 's'} finished every round"
        lead.append(f"{text}{f', and {number(dropped)} dropped out' if dropped else ''}.")
    elif rounds:
        if not any(heights["dropped"]):
            del heights["dropped"]
        cohorts = plots.bars([row["round"] for row in rounds], heights, "round", "clients")
        ends = ", finished and dropped" if len(heights) > 1 else ""
        pictures.append(picture(cohorts, "cohorts", f"Clients of each round{ends}"))
    reasons = run.query(
        "SELECT reason, COUNT(*) FROM clients WHERE dropped = 1 GROUP BY reason ORDER BY 2 DESC"
    )
    rows = [(reason, f"{n:,}") for reason, n in reasons]
    tables = [table(["why clients were dropped", "times"], rows, numbers=True)] if rows else []
    return section("Participation", " ".join(lead), pictures, tables)


def _bytes(run: RecordedRun) -> Section | None:
    totals = {end: run.total(f"bytes_{end}") for end in ("down", "up")}
    if not any(totals.values()):
        return None
    lead = (
        f"In a real deployment, {size(totals['down'])} would be sent to clients and "
        f"{size(totals['up'])} from them: the weights as the algorithm and the aggregator send "
        "them. In this simulation nothing was sent."
    )
    per_round = {end: run.curve(f"bytes_{end}") for end in totals}
    if all(len({*values}) <= 1 for _, values in per_round.values()):
        down, up = (size(max(values, default=0)) for _, values in per_round.values())
        return section("Communication", f"{lead} Every round takes {down} down and {up} up.")
    if per_round["down"] == per_round["up"]:
        per_round = {"each direction": per_round["down"]}
    divisor, name = unit(max(totals.values()))
    series = [
        plots.Series(end, rounds, [total / divisor for total in itertools.accumulate(values)])
        for end, (rounds, values) in per_round.items()
    ]
    figure = plots.curves(series, "round", f"{name} so far")
    return section("Communication", lead, [picture(figure, "bytes", "Would be sent so far")])


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
        about = f"Privacy spent: ε = {number(values[-1])} after round {rounds[-1]}"
        pictures = [picture(figure, "epsilon", "Privacy spent", about)]
    return section("Privacy", lead, pictures, [table(["setting", "value"], rows)])


def _samples(run: RecordedRun) -> Section | None:
    file = run.path / SAMPLES
    if not file.is_file():
        return None
    try:
        samples = _json.read(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it or write it again") from None
    check_samples(samples, f"{file} holds ")
    return section("Samples", texts=samples) if samples else None


def _probe(run: RecordedRun) -> Section | None:
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for file in _probe_files(run, folder):
            source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
            # Outputs per token are too wide to stand beside another picture.
            long = "output" in file.stem
            title = spoken(file.stem)
            pictures.append({"title": title, "alt": title, "source": source, "long": long})
    lead = "Outputs of the global model on a few fixed examples, round by round."
    return section("Probe", lead, pictures, wide=True) if pictures else None


def _probe_files(run: RecordedRun, folder: str) -> list[pathlib.Path]:
    from fedlab.tasks.question_answering import probe, probe_plot

    if (run.path / probe.FILE).is_file():
        return probe_plot.draw(probe.read(run.path), folder)
    return sorted(run.path.glob("probe_*.png"))
