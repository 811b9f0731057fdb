"""Five server optimizers on Shakespeare (Reddi et al. 2021, section 5 and table 1)."""

from experiments import common
from experiments.papers import measures
from experiments.papers.reddi2021 import task
from experiments.papers.study import Case, Outcome, Row, Study, Verdict

# Published accuracies after 1,200 rounds, in %, and the best rates of appendix D.
PUBLISHED = {
    "fed_adagrad": ("FedAdagrad", 57.5),
    "fed_adam": ("FedAdam", 57.0),
    "fed_yogi": ("FedYogi", 57.2),
    "fed_avgm": ("FedAvgM", 57.3),
    "fed_avg": ("FedAvg", 56.9),
}
_ADAPTIVE = ("fed_adagrad", "fed_adam", "fed_yogi")
# Accuracies that differ by this many points or fewer count as the same. Two seeds of one
# optimizer differ by as much.
_SAME = 0.5
_COLORS = dict(
    zip(PUBLISHED, (common.BLUE, common.VERMILION, common.GREEN, common.ORANGE, common.GREY))
)

_PAPER = dict(
    source="tff",
    rounds=1200,
    clients_per_round=10,
    batch_size=4,
    evaluate_every=20,
    mean_of_last=100,
    masked_loss=False,
    units=256,
    seeds=[0],
)
SCALES = {
    "smoke": {
        **_PAPER,
        "source": "synthetic",
        "rounds": 2,
        "clients_per_round": 2,
        "evaluate_every": 1,
        "units": 8,
        "optimizers": ["fed_adam", "fed_avg"],
    },
    "small": {
        **_PAPER,
        "rounds": 400,
        "evaluate_every": 25,
        "units": 128,
        "seeds": [0, 1],
        "optimizers": ["fed_adagrad", "fed_adam", "fed_avg"],
    },
    "paper": _PAPER,
}


def algorithm(name, **options):
    """Returns the algorithm with the rates of appendix D."""
    from fedlab import algorithms

    if name == "fed_adagrad":
        return algorithms.fed_adagrad(10**-0.5, epsilon=1e-1, **options)
    if name == "fed_adam":
        return algorithms.fed_adam(1e-2, epsilon=1e-3, **options)
    if name == "fed_yogi":
        return algorithms.fed_yogi(1e-2, epsilon=1e-3, **options)
    if name == "fed_avgm":
        return algorithms.fed_avgm(10**-0.5, momentum=0.9, **options)
    return algorithms.fed_avg(**options)


def cases(settings):
    return [Case(name, seed) for seed in settings["seeds"] for name in optimizers(settings)]


def optimizers(settings):
    """Returns the names of the optimizers that a scale compares."""
    return settings.get("optimizers", PUBLISHED)


def train(case, setup):
    import fedlab as fl

    settings = setup.settings
    train, test = task.clients(settings["source"], setup.path)
    tokens = task.num_tokens(train)
    weighting = fl.algorithms.by_client(lambda client: tokens[client.client_id])
    run = fl.simulate(
        task.make_model(case.seed, 1.0, settings["masked_loss"], settings["units"]),
        train,
        algorithm(case.name, client_weighting=weighting),
        rounds=settings["rounds"],
        clients_per_round=settings["clients_per_round"],
        batch_size=settings["batch_size"],
        seed=case.seed,
        evaluate_on={"test": test},
        evaluate_every=settings["evaluate_every"],
        evaluation_batch_size=256,
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    return Outcome(run.history)


def accuracy(record):
    """Returns the mean accuracy of the last rounds, in %, which the paper reports."""
    return 100 * measures.mean_of_last(record, "test_accuracy", record["settings"]["mean_of_last"])


def rows(records):
    settings = measures.settings(records)
    rounds, of_last = settings["rounds"], settings["mean_of_last"]
    return [
        Row(
            title,
            f"accuracy of the last {of_last} of {rounds} rounds, %",
            published if rounds == 1200 else None,
            [accuracy(record) for record in records.get(name, [])],
        )
        for name, (title, published) in PUBLISHED.items()
        if name in optimizers(settings)
    ]


def verdict(records):
    settings = measures.settings(records)
    expected = optimizers(settings)
    if set(records) != set(expected):
        return Verdict(None, f"{len(records)} of {len(expected)} optimizers have run.")
    found = {row.name: sum(row.values) / len(row.values) for row in rows(records)}
    base = found["FedAvg"]
    adaptive = [PUBLISHED[name][0] for name in expected if name in _ADAPTIVE]
    told = ", ".join(f"{title} {found[title]:.1f} %" for title in adaptive)
    text = f"{told}, against FedAvg {base:.1f} % after {settings['rounds']} rounds."
    if any(base - _SAME <= found[title] < base for title in adaptive):
        text += f" Up to {_SAME} points below count as equal."
    return Verdict(all(found[title] >= base - _SAME for title in adaptive), text)


def draw(records, file):
    with common.picture(file, 6, 3.8) as (_, [[axis]]):
        for name, seeds in records.items():
            measures.plot(
                axis,
                seeds,
                "test_accuracy",
                scale=100,
                label=PUBLISHED[name][0],
                color=_COLORS[name],
                # Dashed, because it covers FedAdam's curve.
                linestyle="--" if name == "fed_yogi" else "-",
            )
        axis.set(xlabel="round", ylabel="test accuracy, %")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="lower right")


STUDY = Study(
    name="reddi2021",
    title="Adaptive Federated Optimization",
    paper="Reddi et al. 2021",
    url="https://arxiv.org/abs/2003.00295",
    claim="Adaptive server optimizers reach the accuracy of FedAvg, or more, on Shakespeare.",
    data="TFF's federated Shakespeare, all 715 clients.",
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=2,
)
