"""FedRecon against FedAvg and centralized training on MovieLens (Singhal et al. 2021)."""

import math
import statistics

from experiments import common
from experiments.papers import measures
from experiments.papers.study import Case, Outcome, Row, Study, Verdict

# RMSE and accuracy in % on the users for testing, in MovieLens 1M. Not checked against the paper.
PUBLISHED = {
    "fed_recon": (0.907, 43.3),
    "fed_avg": (0.934, 40.0),
    "centralized": ("1.36", 40.8),
}
COLORS = dict(zip(PUBLISHED, (common.BLUE, common.VERMILION, common.GREY)))
_DATA = {"synthetic": "synthetic data", "100k": "MovieLens 100k", "1m": "MovieLens 1M"}

_PAPER = dict(
    versions=["100k", "1m"],
    rounds=500,
    clients_per_round=100,
    num_factors=50,
    fed_recon_rates=[0.5],
    fed_avg_rates=[0.1, 0.2, 0.5],
    reconstruction_rate=0.1,
    evaluate_every=25,
    central_rates=[0.02, 0.05, 0.1, 0.2],
    central_epochs=20,
    central_evaluate_every=1,
    seeds=[0, 1, 2],
)
SCALES = {
    "smoke": {
        **_PAPER,
        "versions": ["synthetic"],
        "rounds": 2,
        "clients_per_round": 3,
        "num_factors": 4,
        "evaluate_every": 1,
        "fed_avg_rates": [0.2],
        "central_rates": [0.1],
        "central_epochs": 1,
        "seeds": [0],
    },
    "small": {
        **_PAPER,
        "versions": ["100k"],
        "rounds": 100,
        "evaluate_every": 10,
        "fed_avg_rates": [0.2],
        "central_rates": [0.1],
        "central_epochs": 10,
        "seeds": [0, 1],
    },
    "paper": _PAPER,
}


def cases(settings):
    """The cases of MovieLens 1M have names that end with "_1m"."""
    return [
        Case(_named(name, version), seed, {"method": name, "version": version})
        for version in settings["versions"]
        for seed in settings["seeds"]
        for name in PUBLISHED
    ]


def train(case, setup):
    from experiments.papers.fedrecon2021 import task

    parts = task.load(case.options["version"], setup.path, case.seed)
    run = _centralized if case.options["method"] == "centralized" else _federated
    return run(case, setup, parts)


def _federated(case, setup, parts):
    import fedlab as fl
    from experiments.papers.fedrecon2021 import task

    settings, is_recon = setup.settings, case.options["method"] == "fed_recon"
    reconstruction_rate = settings["reconstruction_rate"]
    train, validation, test = (_shuffled(part, case) for part in parts[:3])
    sets = {"validation": _pair(validation), "test": _pair(test)}
    algorithm = (task.fed_recon if is_recon else task.fed_avg)(reconstruction_rate)
    runs = {}
    for rate in settings[f"{case.options['method']}_rates"]:
        runs[rate] = fl.simulate(
            task.make_model(parts.num_items, settings["num_factors"], rate, case.seed),
            train.map(task.joined) if is_recon else train,
            algorithm,
            rounds=settings["rounds"],
            clients_per_round=settings["clients_per_round"],
            batch_size=task.BATCH_SIZE,
            max_batches=None if is_recon else task.MAX_STEPS,
            shuffle=False,
            seed=case.seed,
            # "average" is the averaged model as it is, which has a user only with FedAvg.
            evaluate_on=sets if is_recon else {**sets, "average": sets["test"][1]},
            evaluate_every=settings["evaluate_every"],
            run_dir=setup.run_dir / f"rate-{rate}",
            num_workers=setup.num_workers,
            # Clients that diverge are left out. With a high rate, these can be all.
            max_dropped_rounds=None,
        )
    rate = best_rate({rate: run.history[-1]["validation_rmse"] for rate, run in runs.items()})
    run, figures = runs[rate], {"rate": rate}
    if not is_recon:
        found = task.evaluate(
            run.model, test, reconstruction_rate, seed=case.seed, num_workers=setup.num_workers
        )
        figures |= {f"averaged_start_{name}": found[name] for name in ("rmse", "accuracy")}
    return Outcome(run.history, figures)


def _centralized(case, setup, parts):
    import fedlab as fl
    from experiments.papers.fedrecon2021 import task

    settings, train = setup.settings, parts.train
    pooled, validation, seen = task.pooled(train)
    runs, rows_of = {}, {}
    for rate in settings["central_rates"]:
        runs[rate] = fl.simulate(
            task.make_central_model(
                len(train), parts.num_items, settings["num_factors"], rate, case.seed
            ),
            pooled,
            cohort=["server"],
            rounds=settings["central_epochs"],
            batch_size=task.BATCH_SIZE,
            seed=case.seed,
            evaluate_on={"validation": validation, "seen": seen},
            evaluate_every=settings["central_evaluate_every"],
            evaluation_batch_size=1024,
            callbacks=[fl.callbacks.BestModel("validation_rmse")],
            run_dir=setup.run_dir / f"rate-{rate}",
            num_workers=setup.num_workers,
            max_dropped_rounds=None,
        )
        rows_of[rate] = min(
            (row for row in runs[rate].history if row.get("validation_rmse") is not None),
            key=lambda row: row["validation_rmse"],
        )
    rate = best_rate({rate: row["validation_rmse"] for rate, row in rows_of.items()})
    one_user = task.make_model(parts.num_items, settings["num_factors"], rate, case.seed)
    items = runs[rate].best.get_layer("items").get_weights()
    one_user.get_layer("items").set_weights(items)
    found = task.evaluate(
        one_user,
        _shuffled(parts.test, case),
        settings["reconstruction_rate"],
        seed=case.seed,
        num_workers=setup.num_workers,
    )
    row = rows_of[rate]
    figures = {"rate": rate, "epochs": row["round"]}
    for name in ("rmse", "accuracy"):
        figures |= {f"test_{name}": found[name], f"seen_{name}": row[f"seen_{name}"]}
    return Outcome([], figures)


def best_rate(errors):
    """Returns the rate with the least error; a run that diverged has none, or NaN."""
    finite = {rate: e for rate, e in errors.items() if e is not None and math.isfinite(e)}
    if not finite:
        raise ValueError(f"all runs diverged, with the rates {', '.join(map(str, errors))}")
    return min(finite, key=lambda rate: finite[rate])


def _shuffled(clients, case):
    from experiments.papers.fedrecon2021 import task

    return clients.map(lambda columns: task.shuffled(columns, case.seed))


def _pair(clients):
    """Returns the clients' rows that reconstruct, and those that are tested on."""
    from experiments.papers.fedrecon2021 import task

    return tuple(clients.map(lambda columns, i=i: task.passes(columns)[i]) for i in (0, 1))


def _named(name, version):
    return f"{name}_1m" if version == "1m" else name


# Rows of the table: the case, a title, and the prefix of its numbers.
_LINES = [
    ("fed_recon", "FedRecon", "test"),
    ("fed_avg", "FedAvg, reconstruction at evaluation", "test"),
    ("fed_avg", "FedAvg, reconstruction from the averaged user", "averaged_start"),
    ("fed_avg", "FedAvg, the averaged model as it is", "average"),
    ("centralized", "Centralized, reconstruction at evaluation", "test"),
    ("centralized", "Centralized, later ratings of seen users", "seen"),
]


def number(record, name):
    """Returns a number after the last round, such as "test_rmse"."""
    if name in record["figures"]:
        return record["figures"][name]
    return measures.last(record, name)


def rows(records):
    made = []
    for version in measures.settings(records)["versions"]:
        if not any(_named(method, version) in records for method in PUBLISHED):
            continue  # the files of 1M are not always there
        for i, (measure, name, scale, digits) in enumerate(
            [("RMSE", "rmse", 1, 3), ("accuracy, %", "accuracy", 100, 1)]
        ):
            for method, title, prefix in _LINES:
                published = PUBLISHED[method][i] if prefix == "test" else None
                made.append(
                    Row(
                        title,
                        f"{measure}, {_DATA[version]}",
                        None if version == "synthetic" else published,
                        [
                            scale * number(record, f"{prefix}_{name}")
                            for record in records.get(_named(method, version), [])
                        ],
                        digits,
                        "published for 1M" if published and version == "100k" else "",
                    )
                )
    return made


def verdict(records):
    """Compares on the largest data set of which all cases have run.

    Nothing that we read says where FedAvg's users start their reconstruction, so FedRecon has to
    be better than both ways.
    """
    for version in reversed(measures.settings(records)["versions"]):
        of_case = {method: records.get(_named(method, version)) for method in PUBLISHED}
        if all(of_case.values()):
            break
    else:
        return Verdict(None, f"{len(records)} cases have run: expected FedRecon and both others.")
    found = {
        title: [
            statistics.fmean(number(record, f"{prefix}_{name}") for record in of_case[method])
            for name in ("rmse", "accuracy")
        ]
        for title, method, prefix in (
            ("FedRecon", "fed_recon", "test"),
            ("FedAvg", "fed_avg", "test"),
            ("FedAvg that reconstructs from the averaged user", "fed_avg", "averaged_start"),
            ("centralized", "centralized", "test"),
        )
    }
    told = [f"{title} {each[0]:.3f} and {100 * each[1]:.1f} %" for title, each in found.items()]
    rmse, accuracy = found.pop("FedRecon")
    is_better = {title: rmse < each[0] and accuracy > each[1] for title, each in found.items()}
    worse = [title for title, better in is_better.items() if better]
    rounds = measures.settings(records)["rounds"]
    return Verdict(
        all(is_better.values()),
        f"RMSE and accuracy on users of {_DATA[version]} who never trained, after "
        f"{rounds} rounds: {', '.join(told)}. FedRecon is better in both than "
        f"{' and '.join(worse) or 'none'}.",
    )


def draw(records, file):
    versions = [
        version
        for version in measures.settings(records)["versions"]
        if any(_named(method, version) in records for method in PUBLISHED)
    ]
    with common.picture(file, 8.5, 3.4 * len(versions), len(versions), 2) as (_, axes):
        for version, line in zip(versions, axes):
            for axis, (name, scale, label) in zip(
                line, [("rmse", 1, "RMSE"), ("accuracy", 100, "accuracy, %")]
            ):
                _draw(axis, records, version, name, scale)
                axis.set(xlabel="round", ylabel=label, title=f"{_DATA[version]}, users for testing")
                axis.grid(alpha=0.3)
            line[0].set_ylim(0.8, 1.6)
            line[1].legend(frameon=False, loc="lower right")


def _draw(axis, records, version, name, scale):
    lines = [
        ("fed_recon", "test", "-", "FedRecon"),
        ("fed_avg", "test", "-", "FedAvg, reconstruction"),
    ]
    lines += [("fed_avg", "average", "--", "FedAvg, averaged model")]
    for method, prefix, style, label in lines:
        seeds, column = records.get(_named(method, version), []), f"{prefix}_{name}"
        drawn = dict(linestyle=style, color=COLORS[method])
        measures.plot(axis, seeds, column, scale=scale, label=label, **drawn)
    for i, record in enumerate(records.get(_named("centralized", version), [])):
        axis.axhline(
            scale * number(record, f"test_{name}"),
            linestyle=":",
            color=COLORS["centralized"],
            label=None if i else "Centralized, reconstruction",
        )


STUDY = Study(
    name="fedrecon2021",
    title="Federated Reconstruction: Partially Local Federated Learning",
    paper="Singhal et al. 2021",
    url="https://arxiv.org/abs/2102.03448",
    claim="FedRecon predicts ratings of new users better than FedAvg and centralized training do "
    "with the same reconstruction.",
    data="MovieLens 100k, 943 users. The paper has MovieLens 1M, which `--path` can give.",
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=6,
)
