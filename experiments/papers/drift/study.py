"""Rounds that six algorithms need under label skew (Karimireddy et al. 2020, section 7)."""

import math
import statistics

from experiments import common
from experiments.papers import measures
from experiments.papers.study import Case, Outcome, Row, Study, Verdict

ALGORITHMS = {
    "fed_avg": "FedAvg",
    "fed_prox": "FedProx",
    "fed_nova": "FedNova",
    "scaffold": "SCAFFOLD",
    "fed_dyn": "FedDyn",
    "mime": "Mime",
}
PARTITIONS = {
    "iid": "IID",
    "dirichlet": "Dirichlet(0.5)",
    "two_labels": "two labels",
    "uneven_steps": "two labels, uneven steps",
}
_COLORS = dict(
    zip(
        ALGORITHMS,
        (common.GREY, common.ORANGE, common.GREEN, common.BLUE, common.VERMILION, common.PINK),
    )
)

_SMALL = dict(
    source="published",
    num_train=10_000,
    num_clients=20,
    clients_per_round=20,
    local_epochs=10,
    batches_per_epoch=5,
    rounds=20,
    evaluate_every=1,
    learning_rates=[0.03, 0.1, 0.3],
    mu=1.0,
    alpha=0.1,
    algorithms={
        "iid": ["fed_avg", "scaffold"],
        "dirichlet": list(ALGORITHMS),
        "two_labels": list(ALGORITHMS),
        "uneven_steps": ["fed_avg", "fed_nova", "scaffold"],
    },
    seeds=[0, 1],
)
SCALES = {
    "smoke": {
        **_SMALL,
        "source": "synthetic",
        "num_train": 400,
        "num_clients": 5,
        "clients_per_round": 5,
        "local_epochs": 1,
        "rounds": 1,
        "learning_rates": [0.1],
        "algorithms": {"uneven_steps": ["fed_avg", "fed_dyn"]},
        "seeds": [0],
    },
    "small": _SMALL,
    "paper": {
        **_SMALL,
        "num_train": 60_000,
        "num_clients": 100,
        "clients_per_round": 20,
        "rounds": 500,
        "evaluate_every": 5,
        "algorithms": {partition: list(ALGORITHMS) for partition in PARTITIONS},
        "seeds": [0],
    },
}


def cases(settings):
    """The cases `<partition>-<algorithm>-<rate>`."""
    return [
        Case(
            case_name(partition, algorithm, rate),
            seed,
            dict(partition=partition, algorithm=algorithm, rate=rate),
        )
        for seed in settings["seeds"]
        for partition, algorithms in settings["algorithms"].items()
        for algorithm in algorithms
        for rate in settings["learning_rates"]
    ]


def case_name(partition, algorithm, rate):
    return f"{partition}-{algorithm}-{rate:g}"


def train(case, setup):
    import fedlab as fl
    from experiments.papers.drift import task

    settings, partition = setup.settings, case.options["partition"]
    columns, test = task.load(settings, setup.path, case.seed)
    num_clients = settings["num_clients"]
    clients = fl.partitioners.clients(columns, task.partitioner(partition, num_clients, case.seed))
    run = fl.simulate(
        task.make_model(case.options["rate"]),
        clients,
        task.algorithm(case.options["algorithm"], settings, clients),
        rounds=settings["rounds"],
        clients_per_round=settings["clients_per_round"],
        local_epochs=settings["local_epochs"],
        batch_size=settings["num_train"] // num_clients // settings["batches_per_epoch"],
        seed=case.seed,
        conditions=task.share_of_steps if partition == "uneven_steps" else None,
        evaluate_on={"test": test},
        evaluate_every=settings["evaluate_every"],
        evaluation_batch_size=2500,
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
        max_dropped_rounds=None,
    )
    return Outcome(run.history)


def final(record):
    """Returns the accuracy after the last round, in %."""
    return 100 * measures.last(record, "test_accuracy")


def tuned(records, partition, algorithm):
    """Returns (records by seed, rate) of the rate with the best final accuracy.

    The rate is chosen with the first seed. Further seeds may have run with that rate only.
    """
    settings = measures.settings(records)
    runs = {
        rate: records[case_name(partition, algorithm, rate)]
        for rate in settings["learning_rates"]
        if case_name(partition, algorithm, rate) in records
    }
    first = min((record["seed"] for seeds in runs.values() for record in seeds), default=None)
    finals = {rate: final(seeds[0]) for rate, seeds in runs.items() if seeds[0]["seed"] == first}
    best = max(finals, key=finals.get, default=None)
    return runs.get(best, []), best


def rounds_to_fed_avg(records, partition, algorithm):
    """Returns the rounds in which a tuned algorithm reaches FedAvg's final accuracy, by seed."""
    targets = {record["seed"]: final(record) for record in tuned(records, partition, "fed_avg")[0]}
    return [
        measures.rounds_to(record, "test_accuracy", targets[record["seed"]] / 100)
        for record in tuned(records, partition, algorithm)[0]
        if record["seed"] in targets
    ]


def rows(records):
    settings = measures.settings(records)
    made = []
    for partition, algorithms in settings["algorithms"].items():
        for algorithm in algorithms:
            runs, rate = tuned(records, partition, algorithm)
            name = f"{PARTITIONS[partition]}, {ALGORITHMS[algorithm]}"
            accuracies = [final(record) for record in runs]
            measure = f"accuracy after {settings['rounds']} rounds, %"
            note = "" if rate is None else f"rate {rate:g}"
            made.append(Row(name, measure, None, accuracies, note=note))
            needed = rounds_to_fed_avg(records, partition, algorithm)
            skewed = algorithm == "scaffold" and partition in ("dirichlet", "two_labels")
            published = "fewer than FedAvg" if skewed else None
            made.append(Row(name, "rounds to FedAvg's last accuracy", published, needed))
    return made


def verdict(records):
    told, holds = [], []
    for partition in ("dirichlet", "two_labels"):
        needed = {
            algorithm: values
            for algorithm in ALGORITHMS
            if (values := rounds_to_fed_avg(records, partition, algorithm))
        }
        if len(needed) == len(ALGORITHMS):
            # With every seed, not only on average.
            pairs = zip(needed["scaffold"], needed["fed_avg"])
            holds.append(all(fewer < more for fewer, more in pairs))
            named = ", ".join(f"{ALGORITHMS[each]} {_rounds(needed[each])}" for each in needed)
            told.append(f"Rounds to FedAvg's last accuracy, {PARTITIONS[partition]}: {named}.")
    if len(holds) < 2:
        return Verdict(None, "Dirichlet(0.5) and two labels have not run with all algorithms.")
    uneven = {
        algorithm: statistics.fmean(map(final, runs))
        for algorithm in ALGORITHMS
        if (runs := tuned(records, "uneven_steps", algorithm)[0])
    }
    if "fed_avg" in uneven and "fed_nova" in uneven:
        told.append(
            f"If clients also take different numbers of steps, FedAvg ends at "
            f"{uneven['fed_avg']:.1f} % and FedNova, which corrects for them, at "
            f"{uneven['fed_nova']:.1f} %."
        )
    return Verdict(all(holds), " ".join(told))


def _rounds(values):
    if all(map(math.isfinite, values)):
        return f"{statistics.fmean(values):.1f}"
    return "not reached with all seeds" if any(map(math.isfinite, values)) else "not reached"


def draw(records, file):
    settings = measures.settings(records)
    shown = settings["algorithms"]
    with common.picture(file, max(4.0, 2.8 * len(shown)), 3.3, 1, len(shown)) as (_, [axes]):
        for axis, (partition, algorithms) in zip(axes, shown.items()):
            for algorithm in algorithms:
                runs, _ = tuned(records, partition, algorithm)
                if not runs:
                    continue
                curves = [measures.curve(record, "test_accuracy") for record in runs]
                numbers, by_round = curves[0][0], [*zip(*(values for _, values in curves))]
                means, lowest, highest = (
                    measures.percent(map(each, by_round)) for each in (statistics.fmean, min, max)
                )
                color = _COLORS[algorithm]
                axis.plot(numbers[1:], means[1:], color=color, label=ALGORITHMS[algorithm])
                axis.fill_between(
                    numbers[1:], lowest[1:], highest[1:], color=color, alpha=0.15, linewidth=0
                )
            axis.set_title(PARTITIONS[partition], fontsize=9)
            axis.set(xlabel="round")
            axis.grid(alpha=0.3)
        axes[0].set(ylabel="test accuracy, %")
        fullest = max(range(len(shown)), key=lambda i: len([*shown.values()][i]))
        axes[fullest].legend(frameon=False, loc="lower right", fontsize=8)


STUDY = Study(
    name="drift",
    title="SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
    paper="Karimireddy et al. 2020",
    url="https://arxiv.org/abs/1910.06378",
    claim="If clients have different labels, SCAFFOLD needs fewer rounds than FedAvg.",
    data="Fashion-MNIST; scale `small` draws 10,000 of its training images.",
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=5,
)
