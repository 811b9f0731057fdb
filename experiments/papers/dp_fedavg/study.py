"""Accuracy against epsilon (McMahan et al. 2018; Andrew et al. 2021; TFF's tutorial)."""

import math
import statistics

from experiments import common
from experiments.papers import measures
from experiments.papers.dp_fedavg import accounting, task
from experiments.papers.study import Case, Outcome, Row, Study, Verdict

# Of TFF's tutorial "Differential Privacy in TFF", from the outputs stored in its notebook:
# (clients per round, noise multiplier) -> test accuracy after 100 rounds on EMNIST, in %.
PUBLISHED = {(50, 0.0): 80.5, (50, 0.5): 77.0, (50, 0.75): 70.9, (50, 1.0): 38.3, (120, 1.2): 79.6}

# The verdict, in percentage points of accuracy: what the target epsilon may cost, and what a
# smaller epsilon may gain by chance.
LITTLE, CHANCE = 3.0, 1.0

# What the tutorial computes before it trains its last model.
ACCOUNTING = dict(
    num_clients=3383,
    rounds=100,
    delta=1e-5,
    target=2.0,
    noise_per_client=0.01,
    clients=120,
    noise=1.2,
    few_clients=715,
)
_PAPER = dict(
    data="emnist",
    num_clients=3383,
    rounds=100,
    delta=1e-5,
    batch_size=32,
    client_learning_rate=0.01,
    server_momentum=0.9,
    # Clients per round, noise multiplier, clip norm.
    runs=[
        # The tutorial's.
        [50, 0.0, "adaptive"],
        [50, 0.5, "adaptive"],
        [50, 0.75, "adaptive"],
        [50, 1.0, "adaptive"],
        [120, 1.2, "adaptive"],
        # The same noise in the mean with 120 clients, less noise, and more.
        [120, 0.0, "adaptive"],
        [120, 0.6, "adaptive"],
        [120, 1.8, "adaptive"],
        [120, 2.4, "adaptive"],
        [120, 3.6, "adaptive"],
        # Fixed clip norms, and none.
        [120, 1.2, 0.03],
        [120, 1.2, 0.1],
        [120, 1.2, 0.3],
        [120, 1.2, 1.0],
        [120, 0.0, "none"],
    ],
    evaluate_every=10,
    accounting=ACCOUNTING,
    seeds=[0],
)
SCALES = {
    "smoke": {
        **_PAPER,
        "data": "synthetic",
        "num_clients": 40,
        "rounds": 2,
        "runs": [[20, 0.5, "adaptive"], [20, 0.0, "none"]],
        "evaluate_every": 1,
        "accounting": {
            **ACCOUNTING,
            "num_clients": 40,
            "rounds": 2,
            "noise_per_client": 0.2,
            "clients": 20,
            "few_clients": 10,
        },
    },
    # Batches of 5 are four steps per client, as batches of 32 are for EMNIST's writers.
    "small": {**_PAPER, "data": "fashion_mnist", "batch_size": 5, "seeds": [0, 1]},
    "paper": _PAPER,
}


def cases(settings):
    found = [Case("accounting", settings["seeds"][0])]
    for seed in settings["seeds"]:
        for clients, noise, norm in settings["runs"]:
            options = {"clients": clients, "noise": noise, "norm": norm}
            found.append(Case(_name(clients, noise, norm), seed, options))
    return found


def _name(clients, noise, norm):
    clipping = {"adaptive": "", "none": "-unclipped"}.get(norm, f"-norm{norm}")
    return f"clients{clients}-noise{noise}{clipping}"


def train(case, setup):
    if case.name == "accounting":
        return Outcome([], accounting.figures(**setup.settings["accounting"]))
    import tensorflow as tf

    import fedlab as fl

    settings, options = setup.settings, case.options
    train, test = task.clients(settings, setup.path, case.seed)
    tf.keras.utils.set_random_seed(case.seed)
    momentum = settings["server_momentum"]
    run = fl.simulate(
        fl.models.two_nn(learning_rate=settings["client_learning_rate"]),
        train,
        fl.algorithms.fed_avgm(1.0, momentum=momentum, client_weighting="uniform"),
        aggregator=task.aggregator(settings, options),
        cohort=fl.clients.poisson(options["clients"]),
        rounds=settings["rounds"],
        batch_size=settings["batch_size"],
        seed=case.seed,
        evaluate_on={"test": test},
        evaluate_every=settings["evaluate_every"],
        evaluation_batch_size=1000,
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    # Without noise, epsilon is infinite, which JSON does not have.
    spent = run.history[-1].get("epsilon", math.inf)
    figures = {"epsilon": spent} if math.isfinite(spent) else {}
    return Outcome(task.evaluated(run.history), figures)


def accuracy(record):
    """Returns the accuracy after the last round, in %."""
    return 100 * measures.last(record, "test_accuracy")


def rows(records):
    settings = measures.settings(records)
    found = _accounting_rows(records, settings["accounting"])
    published = PUBLISHED if settings["num_clients"] == 3383 else {}
    on_emnist = settings["data"] == "emnist"
    for clients, noise, norm in sorted(settings["runs"], key=_order):
        seeds = records.get(_name(clients, noise, norm), [])
        number = published.get((clients, noise)) if norm == "adaptive" else None
        notes = ["published for EMNIST"] if number is not None and not on_emnist else []
        if norm == "adaptive" and seeds and "clip_norm" in seeds[0]["columns"]:
            last = statistics.fmean(measures.last(record, "clip_norm") for record in seeds)
            notes.append(f"clip norm {last:.3g} at the end")
        found.append(
            Row(
                f"{clients} clients per round, {_clipping(norm)}, noise {noise}, {_spent(seeds)}",
                f"accuracy after {settings['rounds']} rounds, %",
                number,
                [accuracy(record) for record in seeds],
                note="; ".join(notes),
            )
        )
    return found


def _order(run):
    clients, noise, norm = run
    return clients, norm != "none", norm != "adaptive", noise, str(norm)


def _clipping(norm):
    return {"adaptive": "adaptive norm", "none": "not clipped"}.get(norm, f"norm {norm}")


def _spent(seeds):
    if not seeds:
        return "epsilon not computed"
    spent = seeds[0]["figures"].get("epsilon")
    return "no privacy" if spent is None else f"epsilon {spent:.3g}"


def _accounting_rows(records, setting):
    exact = setting == ACCOUNTING
    given = f"{setting['num_clients']:,} clients, {setting['rounds']} rounds"
    least = f"clients per round for ({setting['target']:g}, {setting['delta']:g})"
    chosen = f"epsilon of {setting['clients']} clients per round, noise {setting['noise']}"
    everyone = f"epsilon of all {setting['few_clients']} clients in each round"
    few = f"{setting['few_clients']} clients, {setting['rounds']} rounds"
    lines = [
        (given, least, 120, "clients_by_divergences", 0, "Rényi divergences, as published"),
        (given, "noise multiplier", 1.2, "noise_by_divergences", 1, "0.01 per client"),
        (given, chosen, "at most 2", "epsilon_by_divergences", 3, "Rényi divergences"),
        (given, chosen, None, "epsilon_by_losses", 3, "privacy loss distribution"),
        (given, least, None, "clients_by_losses", 0, "privacy loss distribution"),
        (few, everyone, None, "epsilon_of_few", 2, "as many as TFF's Shakespeare has"),
    ]
    figures = [each["figures"] for each in records.get("accounting", [])]
    return [
        Row(
            name,
            measure,
            published if exact else None,
            [each[figure] for each in figures if figure in each],
            digits,
            note if exact else "",
        )
        for name, measure, published, figure, digits, note in lines
    ]


def curve(records, clients):
    """Returns [(epsilon, accuracies)] of the runs with adaptive norms, from large to small.

    Epsilon is infinite without noise.
    """
    found = []
    for number, noise, norm in measures.settings(records)["runs"]:
        seeds = records.get(_name(number, noise, norm), [])
        if seeds and (number, norm) == (clients, "adaptive"):
            spent = seeds[0]["figures"].get("epsilon", math.inf)
            found.append((spent, [accuracy(record) for record in seeds]))
    return sorted(found, reverse=True)


def verdict(records):
    settings = measures.settings(records)
    setting = settings["accounting"]
    private = [
        run for run in settings["runs"] if (run[0], run[2]) == (setting["clients"], "adaptive")
    ]
    means = [(spent, statistics.fmean(each)) for spent, each in curve(records, setting["clients"])]
    moderate = next((value for spent, value in means if spent <= setting["target"]), None)
    if len(means) < len(private):
        return Verdict(None, f"{len(means)} of {len(private)} noise multipliers have run.")
    if moderate is None or math.isfinite(means[0][0]):
        return Verdict(
            None,
            f"Runs without noise and with an epsilon of at most {setting['target']:g} are needed.",
        )
    values = [value for _, value in means]
    falls = all(after <= before + CHANCE for before, after in zip(values, values[1:]))
    holds = values[0] - moderate <= LITTLE and falls and values[0] - values[-1] > LITTLE
    told = ", ".join(f"{value:.1f} % at {spent:.2g}" for spent, value in means[1:])
    text = f"Without noise {values[0]:.1f} % accuracy; by epsilon {told}."
    if fixed := _fixed(records, settings):
        best = max(statistics.fmean(each) for *_, each in fixed)
        text += f" The best of {len(fixed)} fixed clip norms has {best:.1f} %, the adaptive one "
        text += f"{moderate:.1f} %."
    return Verdict(holds, text)


def draw(records, file):
    settings = measures.settings(records)
    populations = sorted({run[0] for run in settings["runs"]})
    colors = dict(zip(populations, (common.VERMILION, common.BLUE)))
    with common.picture(file, 6.4, 4) as (_, [[axis]]):
        for clients in populations:
            points = curve(records, clients)
            finite = [(spent, each) for spent, each in points if math.isfinite(spent)]
            if finite:
                _plot(axis, finite, colors[clients], "o-", f"{clients} clients per round")
            for _, each in points[: len(points) - len(finite)]:
                level = statistics.fmean(each)
                axis.axhline(level, color=colors[clients], linestyle="--", linewidth=1)
        fixed = _fixed(records, settings)
        if fixed:
            _plot(axis, [each[1:] for each in fixed], common.GREY, "x", "fixed clip norms")
        for norm, spent, each in fixed:
            place = (spent, statistics.fmean(each))
            axis.annotate(f"{norm:g}", place, xytext=(6, -3), textcoords="offset points")
        axis.plot([], [], "--", color=common.GREY, linewidth=1, label="without noise")
        axis.set(xlabel=f"epsilon (delta {settings['delta']:g})", ylabel="test accuracy, %")
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="lower right")


def _plot(axis, points, color, style, label):
    spent = [each for each, _ in points]
    means = [statistics.fmean(values) for _, values in points]
    errors = [statistics.stdev(values) if len(values) > 1 else 0 for _, values in points]
    axis.errorbar(spent, means, errors, fmt=style, color=color, label=label, capsize=2)


def _fixed(records, settings):
    """Returns [(clip norm, epsilon, accuracies)] of the runs with fixed norms."""
    found = []
    for clients, noise, norm in settings["runs"]:
        seeds = records.get(_name(clients, noise, norm), [])
        if seeds and not isinstance(norm, str):
            found.append((norm, seeds[0]["figures"]["epsilon"], [accuracy(each) for each in seeds]))
    return found


STUDY = Study(
    name="dp_fedavg",
    title="Learning Differentially Private Recurrent Language Models",
    paper="McMahan et al. 2018",
    url="https://arxiv.org/abs/1710.06963",
    claim=(
        "With many clients, an epsilon of 2 costs little accuracy; a smaller epsilon costs more."
    ),
    data=(
        "`small`: Fashion-MNIST, divided at random among 3,383 clients. `paper`: EMNIST's digits, "
        "3,383 writers. The paper's own data are not public."
    ),
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=7,
)
