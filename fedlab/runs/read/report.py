"""A run as a page: report.html, one file that needs no other, made from what the run folder holds. TensorFlow is not needed.

Of the folder's other files it shows, where they are there:

    samples.json     texts that a model has written, [{"title": ..., "text": ...}, ...]: see `write_samples`
    probe.npz        what an `fl.question_answering.Probe` has kept: its pictures; or probe_*.png, what `fedlab squad probe` has drawn
"""

import base64
import datetime
import errno
import importlib.resources
import importlib.util
import itertools
import json
import logging
import math
import os
import pathlib
import tempfile

from fedlab import _json
from fedlab._files import explained, write
from fedlab._text import is_unicode
from fedlab._wording import duration, number, size, spoken, unit
from fedlab.evaluation.metric_names import STATISTICS, lower_is_better
from fedlab.runs.read import recorded

logger = logging.getLogger("fedlab")

FILE = "report.html"
_TEMPLATE = "report.html.jinja"
_SAMPLES = "samples.json"
_MOST_WORST = 10  # clients that are named


def write_report(path, output=None):
    """Writes a run's report.

    Args:
      path: the run folder.
      output: the file; by default report.html in the folder.

    Returns:
      The file's path.

    Raises:
      ModuleNotFoundError: jinja2 or matplotlib is not installed.
      FileNotFoundError, NotADirectoryError, ValueError: it is no run folder, or damaged: see `fedlab.runs.read.recorded.read_run`.

    Example:
      >>> write_report("runs/first")  # doctest: +SKIP
      PosixPath('runs/first/report.html')
    """
    template = _template()
    run = recorded.read_run(path)
    output = pathlib.Path(output) if output is not None else run.path / FILE
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"{output} would be in a folder that does not exist: make it, or give another file."
        )
    page = template.render(_page(run)).encode(errors="replace")  # a path need not be Unicode
    with explained(str(output), "give another file"):
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))
        write(output, page)
    return output


def write_samples(path, samples):
    """Puts texts that models have written into a run folder, and writes its report anew where that can be drawn.

    Args:
      path: the run folder.
      samples: a list of {"title": str, "text": str}, such as of the model before and after training.

    Raises:
      ValueError: they are something else.
    """
    path = pathlib.Path(path)
    _check_samples(samples, "received samples that are")
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run folder {str(path)!r}: check the path.")
    write(path / _SAMPLES, json.dumps(samples, ensure_ascii=False, indent=1).encode())
    if missing() is None:
        write_report(path)


def write_report_of_run(path):
    """Writes the report at the end of a run; logs a line if that is not possible."""
    if (library := missing()) is not None:
        logger.info("no %s is written: %s is not installed.", FILE, library)
        return
    try:
        write_report(path)
    except ValueError as error:  # a file that somebody else put there; the run is good
        logger.warning("no %s is written: %s", FILE, error)


def missing():
    """The library that a report needs and that is not installed here, or None."""
    return next(
        (name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None), None
    )


def _template():
    if (name := missing()) is not None:
        raise ModuleNotFoundError(
            f"reports need the library {name}, not installed here: pip install {name}."
        )
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        (importlib.resources.files(__package__) / _TEMPLATE).read_text(encoding="utf-8")
    )


def _page(run):
    """What the template shows."""
    sections = [
        _curves(run),
        *_clients(run),
        _participation(run),
        _bytes(run),
        _privacy(run),
        _samples(run),
        _probe(run),
    ]
    state = "finished" if run.finished else "not finished"
    asked = run.config.get("rounds")
    ended = datetime.datetime.fromtimestamp(run.times[-1], datetime.UTC) if run.times else None
    return {
        "name": run.path.resolve().name,
        "state": f"{state}: {run.rounds_done}{f' of {asked}' if asked else ''} rounds",
        "finished": run.finished,
        "ended": ended and ended.strftime("%Y-%m-%d %H:%M UTC"),
        "tiles": _tiles(run),
        "sections": [section for section in sections if section],
        "settings": {
            name: recorded.shown(name, value)
            for name, value in recorded.settings(run.config).items()
        },
        "record": {
            **{
                f"version of {name}": version
                for name, version in dict(run.config.get("versions") or {}).items()
            },
            "commit": run.config.get("commit") or "not known",
        },
    }


def _section(title, lead="", pictures=(), tables=(), texts=()):
    return {
        "title": title,
        "lead": lead,
        "pictures": list(pictures),
        "tables": list(tables),
        "texts": list(texts),
    }


def _picture(figure, name, title):
    import markupsafe

    from fedlab.runs.read import plots as runs

    # matplotlib has escaped the texts in it.
    return {"title": title, "svg": markupsafe.Markup(runs.svg(figure, name))}


def _tiles(run):
    """(title, number, remark) of what a reader wants first."""
    tiles = []
    for name, result in run.results().items():
        if not name.startswith("train_"):
            first = run.curve(name)[1][0]
            remark = f"{number(first)} at first, best {number(result['best'])} in round {result['best_round']}"
            tiles.append((spoken(name), number(result["last"]), remark))
    tiles = tiles[:6]
    rounds = max(1, run.rounds_done)
    if seconds := run.total("seconds"):
        tiles.append(
            (
                "training time",
                duration(seconds),
                f"{duration(seconds / rounds)} a round, evaluation apart",
            )
        )
    if sent := run.total("bytes_down") + run.total("bytes_up"):
        tiles.append(
            (
                "sent",
                size(sent),
                f"{size(run.total('bytes_down'))} down, {size(run.total('bytes_up'))} up",
            )
        )
    epsilons = run.curve("epsilon")[1]
    if epsilons:
        tiles.append(("privacy spent", f"ε = {number(epsilons[-1])}", "after the last round"))
    return tiles


def _curves(run):
    from fedlab.runs.read import plots as runs

    groups = {}
    for column in run.metrics:
        groups.setdefault(run.split(column)[1].removeprefix("personal_"), []).append(column)
    pictures, colours = [], {}
    for metric, columns in groups.items():
        for xlabel, places in _axes(run).items():
            series = []
            for column in columns:
                rounds, values = run.curve(column)
                if not any(map(math.isfinite, values)):
                    continue
                part, name = run.split(column)
                label = part + (" (fine-tuned)" if name.startswith("personal_") else "")
                band = [dict(zip(*run.curve(f"{column}_{end}"))) for end in ("p10", "p90")]
                low, high = (
                    [each.get(r, math.nan) for r in rounds] if each else None for each in band
                )
                colour = colours.setdefault(
                    label, len(colours)
                )  # a set has the same in every picture
                series.append(
                    runs.Series(label, [places[r] for r in rounds], values, low, high, colour)
                )
            if series:
                title = f"{spoken(metric)} by {xlabel}"
                pictures.append(
                    _picture(
                        runs.curves(series, xlabel, spoken(metric)),
                        f"curve {metric} {xlabel}",
                        title,
                    )
                )
    if not pictures:
        return _section("Learning curves", "No round is evaluated yet.")
    kinds = {part: _kind(run, part) for part in run.parts}
    banded = (
        " A band goes from the 10th to the 90th percentile over clients."
        if run.per_client_parts
        else ""
    )
    lead = (
        "Round 0 is before training. Seconds are those of training, in which the first round also builds its graphs; bytes are those sent "
        f"down and up together.{banded}"
    )
    return _section(
        "Learning curves",
        lead,
        pictures,
        [{"head": ["set", "what it is"], "rows": [*kinds.items()]}],
    )


def _kind(run, part):
    if part == "train":
        return "the examples that the clients of a round train on, as they train"
    about = run.config["evaluation_examples"][part]
    if isinstance(about, int):
        return f"central: {number(about)} examples together"
    if part in run.per_client_parts:
        tuned = (
            "; fine-tuned: after each has trained on examples of its own"
            if "local" in about
            else ""
        )
        return f"{number(about['clients'])} clients, each evaluated by itself; the mean counts them by their examples{tuned}"
    if isinstance(about, dict) and {"local", "test"} == about.keys():
        return f"clients that first fine-tune on examples of their own; {number(about['test'])} test examples"
    if isinstance(about, dict) and "name" in about:
        numbers = ", ".join(
            f"{spoken(name)} {number(value)}"
            for name, value in about.items()
            if type(value) in (int, float)
        )
        return f"{about['name']}: {numbers}" if numbers else about["name"]
    return "a function of the caller's own"


def _axes(run):
    """Axis -> round -> place, for those that the run has numbers for."""
    axes = {"round": run.places("round")}
    if sent := run.total("bytes_down") + run.total("bytes_up"):
        divisor, name = unit(sent)
        axes[f"{name} sent"] = {
            round_num: place / divisor for round_num, place in run.places("bytes").items()
        }
    if run.total("seconds"):
        axes["seconds"] = run.places("seconds")
    return axes


def _clients(run):
    """A section for each set whose clients are evaluated one by one; where there is none, one of the clients' train losses."""
    sections = [_evaluated_clients(run, part) for part in run.per_client_parts]
    if any(sections):
        return sections
    found = run.query(
        "SELECT client_id, loss, MAX(round) FROM clients WHERE loss IS NOT NULL AND NOT dropped GROUP BY client_id"
    )
    losses = {client_id: loss for client_id, loss, _ in found if math.isfinite(loss)}
    if not losses:
        return []
    lead = "The train loss of each client when it last took part. No set was evaluated client by client."
    pictures = [_distribution("train", "loss", losses, {}, ("last time", ""))]
    return [_section("Over clients", lead, pictures, [_worst_clients("loss", losses, {})])]


def _evaluated_clients(run, part):
    rounds = [
        r
        for (r,) in run.query(
            "SELECT DISTINCT round FROM evaluations WHERE part = ? ORDER BY round", part
        )
    ]
    if not rounds:
        return None
    now, before = (_values(run, part, r) for r in (rounds[-1], rounds[0]))
    title = f"Over clients: {part}"
    plain = [name for name in now if not name.startswith("personal_")]
    if not plain:
        return _section(title, f"In round {rounds[-1]} no client's metric is a number.")
    chosen = next((name for name in plain if not lower_is_better(name)), plain[0])
    pictures = []
    for metric in (chosen, f"personal_{chosen}"):
        if now.get(metric):
            earlier = before.get(metric, {}) if len(rounds) > 1 else {}
            pictures.append(
                _distribution(
                    part,
                    metric,
                    now[metric],
                    earlier,
                    (f"round {rounds[-1]}", f"round {rounds[0]}"),
                )
            )
    row = next(row for row in reversed(run.history) if row["round"] == rounds[-1])
    head = [
        "metric",
        "mean by examples",
        "plain mean",
        "10th percentile",
        "median",
        "90th percentile",
        "worst tenth",
    ]
    columns = {
        metric: [f"{part}_{metric}", *(f"{part}_{metric}_{end}" for end in STATISTICS)]
        for metric in now
    }
    table = [
        [spoken(metric), *(number(row.get(column)) for column in names)]
        for metric, names in columns.items()
    ]
    gains = [
        f"{spoken(metric)} better by {number(gain)}"
        for metric in plain
        if (gain := row.get(f"{part}_{metric}_gain")) is not None
    ]
    lead = f"The global model of round {rounds[-1]} on each client of “{part}” by itself."
    if gains:
        lead += f" What local fine-tuning gains in the mean by examples: {', '.join(gains)}."
    sizes = dict(
        run.query(
            "SELECT client_id, num_examples FROM evaluations WHERE part = ? AND round = ?",
            part,
            rounds[-1],
        )
    )
    tables = [{"head": head, "rows": table}, _worst_clients(chosen, now[chosen], sizes)]
    return _section(title, lead, pictures, tables)


def _values(run, part, round_num):
    """Metric -> client id -> value, where it is a number."""
    rows = run.query(
        "SELECT metric, client_id, value FROM evaluations WHERE part = ? AND round = ? AND value IS NOT NULL ORDER BY rowid",
        part,
        round_num,
    )
    values = {}
    for metric, client_id, value in rows:
        if math.isfinite(value):
            values.setdefault(metric, {})[client_id] = value
    return values


def _worst_first(values, metric):
    return sorted(values, key=values.get, reverse=lower_is_better(metric))


def _distribution(part, metric, values, before, labels):
    import numpy as np

    from fedlab.runs.read import plots as runs

    worst = set(_worst_first(values, metric)[: math.ceil(len(values) / 10)])
    mask = np.array([client_id in worst for client_id in values])
    before = np.array([*before.values()]) if before else None
    figure = runs.distribution(np.array([*values.values()]), spoken(metric), mask, before, labels)
    return _picture(
        figure, f"clients {part} {metric}", f"{part}: {spoken(metric)} over {len(values):,} clients"
    )


def _worst_clients(metric, values, sizes):
    names = _worst_first(values, metric)[:_MOST_WORST]
    head = ["worst-served clients", *(["examples"] if sizes else []), spoken(metric)]
    rows = [
        [name, *([number(sizes[name])] if sizes else []), number(values[name])] for name in names
    ]
    return {"head": head, "rows": rows}


def _participation(run):
    from fedlab.runs.read import plots as runs

    counts = dict(
        run.query(
            "SELECT n, COUNT(*) FROM (SELECT SUM(dropped IS NOT 1) n FROM clients GROUP BY client_id) GROUP BY n"
        )
    )
    if not counts:
        return None
    num_clients = run.config.get("num_clients") or sum(counts.values())
    counts[0] = counts.get(0, 0) + max(0, num_clients - sum(counts.values()))
    times = range(max(counts) + 1)
    taken = runs.bars(
        [*times],
        {"clients": [counts.get(n, 0) for n in times]},
        "rounds that a client finished",
        "clients",
    )
    rounds = [row for row in run.history if "clients_asked" in row]
    heights = {
        "finished": [row["clients_finished"] for row in rounds],
        "dropped": [row["clients_dropped"] for row in rounds],
    }
    if not any(heights["dropped"]):
        del heights["dropped"]
    cohorts = runs.bars([row["round"] for row in rounds], heights, "round", "clients")
    reasons = run.query(
        "SELECT reason, COUNT(*) FROM clients WHERE dropped = 1 GROUP BY reason ORDER BY 2 DESC"
    )
    tables = (
        [
            {
                "head": ["why clients were dropped", "times"],
                "rows": [[reason, f"{n:,}"] for reason, n in reasons],
            }
        ]
        if reasons
        else []
    )
    lead = f"{num_clients - counts[0]:,} of {num_clients:,} clients finished a round{f', {counts[0]:,} none so far' if counts[0] else ''}."
    pictures = [
        _picture(taken, "participation", "How often clients took part"),
        _picture(
            cohorts,
            "cohorts",
            "Clients of each round" + (", finished and dropped" if len(heights) > 1 else ""),
        ),
    ]
    return _section("Participation", lead, pictures, tables)


def _bytes(run):
    from fedlab.runs.read import plots as runs

    totals = {end: run.total(f"bytes_{end}") for end in ("down", "up")}
    if not any(totals.values()):
        return None
    divisor, name = unit(max(totals.values()))
    series = []
    for end in totals:
        rounds, values = run.curve(f"bytes_{end}")
        series.append(
            runs.Series(end, rounds, [total / divisor for total in itertools.accumulate(values)])
        )
    lead = f"{size(totals['down'])} to clients and {size(totals['up'])} from them: weights as the algorithm and the aggregator send them."
    return _section(
        "Communication",
        lead,
        [_picture(runs.curves(series, "round", f"{name} so far"), "bytes", "Sent so far")],
    )


def _privacy(run):
    from fedlab.runs.read import plots as runs

    rounds, values = run.curve("epsilon")
    if not values:
        return None
    guarantee = {
        name: value
        for name, value in recorded.settings(run.config).items()
        if name.startswith("aggregator")
    }
    lead = f"ε = {number(values[-1])} after round {rounds[-1]}" + (
        "." if math.isfinite(values[-1]) else ": without noise nothing is hidden."
    )
    tables = [
        {
            "head": ["setting", "value"],
            "rows": [[name, recorded.shown(name, value)] for name, value in guarantee.items()],
        }
    ]
    if not any(map(math.isfinite, values)):
        return _section("Privacy", lead, tables=tables)
    picture = _picture(
        runs.curves([runs.Series("ε", rounds, values)], "round", "ε so far"),
        "epsilon",
        "Privacy spent",
    )
    return _section("Privacy", lead, [picture], tables)


def _samples(run):
    file = run.path / _SAMPLES
    if not file.is_file():
        return None
    try:
        samples = _json.read(file)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it, or write it again.") from None
    _check_samples(samples, f"{file} holds")
    return _section("Samples", texts=samples)


def _check_samples(samples, where):
    good = isinstance(samples, list) and all(
        isinstance(each, dict)
        and all(
            isinstance(each.get(name), str) and is_unicode(each[name]) for name in ("title", "text")
        )
        for each in samples
    )
    if not good:
        raise ValueError(
            f'{where} {samples!r:.60}; allowed: a list of {{"title": a text, "text": a text}}.'
        )


def _probe(run):
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for file in _probe_files(run, folder):
            source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
            # Outputs by token are long: beside another picture their tokens could not be read.
            pictures.append(
                {
                    "title": file.stem.replace("_", " "),
                    "source": source,
                    "long": "output" in file.stem,
                }
            )
    lead = "What the global model made of the same few examples from round to round."
    return _section("Probe", lead, pictures) if pictures else None


def _probe_files(run, folder):
    from fedlab.tasks.question_answering import probe
    from fedlab.tasks.question_answering import probe_plot as plots

    return (
        plots.draw(probe.read(run.path), folder)
        if (run.path / probe.FILE).is_file()
        else sorted(run.path.glob("probe_*.png"))
    )
