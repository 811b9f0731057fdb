"""TFF's tutorial Federated Learning for Text Generation: its outputs, and its extensions.

The published numbers are the outputs in docs/tutorials of TensorFlow Federated's repository:
the versions of 2020-02-18, 2020-07-21 and 2022-06-16. The last is the current one.
"""

import statistics

from experiments import common
from experiments.papers import measures
from experiments.papers.study import Case, Outcome, Row, Study, Verdict
from experiments.papers.tff_tutorial import task

# Each output: evaluation losses and accuracies before the rounds and after each, and the train
# losses of the rounds.
PUBLISHED = {
    "2020-02-18": (
        [3.394, 2.781, 2.434, 2.134, 1.890, 2.023],
        [0.381, 0.460, 0.478, 0.533, 0.551, 0.539],
        [3.096, 2.603, 2.387, 2.260, 2.101],
    ),
    "2020-07-21": (
        [3.324, 4.361, 4.219, 4.080, 3.991, 3.909],
        [0.401, 0.049, 0.177, 0.174, 0.176, 0.171],
        [4.360, 4.235, 4.081, 3.940, 3.840],
    ),
    "2022-06-16": (
        [3.171, 4.188, 3.948, 3.826, 3.723, 3.599],
        [0.428, 0.185, 0.200, 0.179, 0.171, 0.181],
        [4.309, 4.037, 3.797, 3.662, 3.440],
    ),
}
# One round of one client from random weights: train loss, accuracy.
FIRST_STEP = {"first_step": (4.281, 0.145), "first_step_collapsed": (4.399, 0.139)}
_FIRST_NOTES = {
    "first_step": "2020-02-18",
    "first_step_collapsed": "2022-06-16; 4.399 to 4.404 and 0.129 to 0.147 in five outputs",
}
RANDOM_TEXT = 0.011
SMALLEST_GAIN = 0.05  # points of accuracy

# The cases of the five suggested extensions: title, options. Their first case is the base.
EXTENSIONS = {
    "base": ("the tutorial's two roles, SGD", {}),
    "clients_2": ("2 random roles per round", {"clients": 2}),
    "clients_5": ("5 random roles per round", {"clients": 5}),
    "clients_10": ("10 random roles per round", {"clients": 10}),
    "epochs_2": ("2 local epochs", {"epochs": 2}),
    "epochs_5": ("5 local epochs", {"epochs": 5}),
    "client_adam": ("client Adam, 0.001", {"optimizer": "Adam"}),
    "client_rmsprop": ("client RMSprop, 0.001", {"optimizer": "RMSprop"}),
    "server_momentum": ("server momentum", {"server": "fed_avgm"}),
    "server_adam": ("server Adam", {"server": "fed_adam"}),
    "server_yogi": ("server Yogi", {"server": "fed_yogi"}),
    "server_adagrad": ("server Adagrad", {"server": "fed_adagrad"}),
}
# The tutorial's two clients both train on 40 sequences, so that all weights are equal. These
# cases have ten roles with all their text.
WEIGHTS = {
    "weight_examples": ("ten roles, weights by examples", {"weight": "num_examples"}),
    "weight_tokens": ("ten roles, weights by tokens", {"weight": "num_tokens"}),
    "weight_uniform": ("ten roles, uniform weights", {"weight": "uniform"}),
    "weight_loss": ("ten roles, weights by loss", {"weight": "loss"}),
}
_BASES = dict.fromkeys(EXTENSIONS, "base") | dict.fromkeys(WEIGHTS, "weight_examples")

_CELIA, _OTHELLO = "ALL_S_WELL_THAT_ENDS_WELL_CELIA", "MUCH_ADO_ABOUT_NOTHING_OTHELLO"
_PAPER = dict(
    source="tff",
    cohort=[_CELIA, _OTHELLO],
    example="THE_TRAGEDY_OF_KING_LEAR_KING",
    units=None,  # of an untrained model in place of the pretrained one
    rounds=5,
    batches=5,
    batch_size=8,
    rate=0.5,
    random_sequences=400,
    extension_units=None,  # of a smaller model, which is pretrained here
    pretraining_epochs=2,
    extension_rounds=20,
    extension_evaluate_every=10,
    extension_sequences=300,
    weight_clients=10,
    adaptive_client_rate=1e-3,
    seeds=[0, 1, 2],
)
SCALES = {
    "smoke": {
        **_PAPER,
        "source": "synthetic",
        "cohort": ["ROLE_0", "ROLE_1"],
        "example": "ROLE_2",
        "units": 8,
        "rounds": 1,
        "random_sequences": 8,
        "extension_units": 4,
        "pretraining_epochs": 1,
        "extension_rounds": 2,
        "extension_sequences": 16,
        "weight_clients": 3,
        "seeds": [0],
    },
    "small": {**_PAPER, "extension_units": 128, "seeds": [0, 1]},
    "paper": _PAPER,
}


def cases(settings):
    names = ["healthy", "collapsed", *FIRST_STEP, "random_text"]
    options = {name: options for name, (_, options) in {**EXTENSIONS, **WEIGHTS}.items()}
    if settings["source"] == "synthetic":  # smoke: one of each kind
        names = ["collapsed", "random_text"]
        options = {"weight_loss": {"weight": "loss", "optimizer": "Adam", "epochs": 2}}
    return [
        Case(name, seed, options.get(name, {}))
        for seed in settings["seeds"]
        for name in [*names, *options]
    ]


def train(case, setup):
    if case.name == "random_text":
        return Outcome([], random_text(case, setup))
    if case.name in FIRST_STEP:
        return first_step(case, setup)
    return (
        tutorial(case, setup) if case.name in ("healthy", "collapsed") else extension(case, setup)
    )


def tutorial(case, setup):
    """Trains as the tutorial does.

    The version of 2020-02-18 has three clients. The third is the role that is evaluated. The
    later versions have the first two.
    """
    import fedlab as fl

    settings = setup.settings
    train, test = task.text(settings, setup.path, drop_remainder=True)
    model = task.tutorial_model(settings)
    cohort, algorithm = list(settings["cohort"]), fl.algorithms.fed_avg()
    if case.name == "healthy":
        cohort.append(settings["example"])
    else:
        algorithm = task.losing_recurrent_weights(algorithm, task.recurrent_weights(model))
    run = fl.simulate(
        model,
        train,
        algorithm,
        rounds=settings["rounds"],
        cohort=cohort,
        batch_size=settings["batch_size"],
        max_batches=settings["batches"],
        drop_remainder=True,
        seed=case.seed,
        evaluate_on={
            "example": train.select([settings["example"]]),
            "held_out_text": test.select(cohort),
        },
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    return Outcome(run.history)


def first_step(case, setup):
    """One round of one client, from random weights."""
    import fedlab as fl

    settings = setup.settings
    train, _ = task.text(settings, setup.path, drop_remainder=True)
    model, algorithm = task.untrained_model(settings, case.seed), fl.algorithms.fed_avg()
    if case.name != "first_step":
        algorithm = task.losing_recurrent_weights(algorithm, task.recurrent_weights(model))
    run = fl.simulate(
        model,
        train,
        algorithm,
        rounds=1,
        cohort=[settings["example"]],
        batch_size=settings["batch_size"],
        max_batches=settings["batches"],
        drop_remainder=True,
        seed=case.seed,
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    last = run.history[-1]
    return Outcome([], {"loss": last["train_loss"], "accuracy": last["train_accuracy"]})


def random_text(case, setup):
    """The accuracy on uniformly random characters, of the pretrained model and a random one."""
    import fedlab as fl

    settings = setup.settings
    model = task.tutorial_model(settings)
    few = task.random_text(settings["batch_size"], case.seed)
    many = task.random_text(settings["random_sequences"], case.seed)
    train, _ = task.text(settings, setup.path, drop_remainder=True)
    example = train.select([settings["example"]])
    untrained = task.untrained_model(settings, case.seed)
    return {
        "few": fl.evaluate(model, few)["accuracy"],
        "many": fl.evaluate(model, many)["accuracy"],
        "untrained": fl.evaluate(untrained, many)["accuracy"],
        "example": fl.evaluate(model, example)["accuracy"],
        "characters": float(many["y"].size),
    }


def extension(case, setup):
    """One of the suggested extensions, on the roles that the smaller model has not read.

    The tutorial takes the first five batches of a client. With `.repeat(E)` a client would
    train on 5 E batches, and so it does here with E local epochs.
    """
    import fedlab as fl

    settings, options = setup.settings, case.options
    train, test = task.text(settings, setup.path, drop_remainder=False)
    _, pretraining = train.split_clients(0.5, seed=0)
    pretraining = [name for name in pretraining if name not in settings["cohort"]]
    clients = train.select([name for name in train if name not in set(pretraining)])
    roles = test.select([name for name in clients if name in test])
    model = task.extension_model(settings, train.select(pretraining), setup.run_dir.parent)
    if "optimizer" in options:
        model.optimizer = _keras_optimizer(options["optimizer"], settings["adaptive_client_rate"])
    epochs = options.get("epochs", 1)
    if "clients" in options:
        who = {"clients_per_round": options["clients"]}
    elif "weight" in options:
        who = {"cohort": _some(clients, settings["weight_clients"], case.seed)}
    else:
        who = {"cohort": list(settings["cohort"])}
    run = fl.simulate(
        model,
        clients,
        _algorithm(options),
        rounds=settings["extension_rounds"],
        **who,
        batch_size=settings["batch_size"],
        local_epochs=epochs,
        max_batches=None if "weight" in options else epochs * settings["batches"],
        seed=case.seed,
        evaluate_on={"roles": _whole(task.draw(roles, settings["extension_sequences"], case.seed))},
        evaluate_every=settings["extension_evaluate_every"],
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    return Outcome(run.history)


def _algorithm(options):
    import fedlab as fl
    from experiments.papers.reddi2021 import study as reddi

    if "server" in options:  # at the best rates of Reddi et al. 2021 for Shakespeare
        return reddi.algorithm(options["server"])
    weight = options.get("weight", "num_examples")
    if weight == "loss":
        weight = fl.algorithms.by_client(_last_loss)
    return fl.algorithms.fed_avg(client_weighting=weight)


def _last_loss(client):
    """The weight of a client: its train loss of the round before."""
    return 1.0 if client.last_loss is None else client.last_loss


def _keras_optimizer(name, rate):
    import tensorflow as tf

    return getattr(tf.keras.optimizers, name)(rate)


def _some(clients, number, seed):
    """Returns the ids of clients drawn at random."""
    from fedlab.clients import seeding

    ids = seeding.generator(seed, "roles").permutation(list(clients))[:number]
    return [str(client_id) for client_id in ids]


def _whole(columns):
    """Returns columns as the clients' data that `evaluate_on` takes."""
    import fedlab as fl

    return fl.ClientData.from_dict({"roles": columns})


def gains(records):
    """Returns name -> per seed, points of accuracy after the last round above the base."""
    found = {}
    for name, base in _BASES.items():
        bases = {record["seed"]: record for record in records.get(base, [])}
        differences = [
            100
            * (measures.last(each, "roles_accuracy") - measures.last(bases[seed], "roles_accuracy"))
            for each in records.get(name, [])
            if (seed := each["seed"]) in bases
        ]
        if name != base and differences:
            found[name] = differences
    return found


def rows(records):
    healthy, collapsed = records.get("healthy", []), records.get("collapsed", [])
    made = []
    for title, outputs, records_of_case in (
        ("trained, 2020-02-18", ["2020-02-18"], healthy),
        ("collapsed, 2020-07-21 and 2022-06-16", ["2020-07-21", "2022-06-16"], collapsed),
    ):
        for part, column, name in (
            (1, "example_accuracy", "evaluation accuracy"),
            (0, "example_loss", "evaluation loss"),
            (2, "train_loss", "train loss"),
        ):
            for end, when in ((0, "before" if part < 2 else "first round"), (-1, "last round")):
                published = " / ".join(f"{PUBLISHED[date][part][end]:.3f}" for date in outputs)
                ours = [measures.curve(each, column)[1][end] for each in records_of_case]
                made.append(Row(title, f"{name}, {when}", published, ours, 3))
    for name, (loss, accuracy) in FIRST_STEP.items():
        title = "random weights, one round"
        title += ", recurrent weights lost" if name != "first_step" else ""
        for measure, published in (("loss", loss), ("accuracy", accuracy)):
            ours = [each["figures"][measure] for each in records.get(name, [])]
            made.append(Row(title, f"train {measure}", published, ours, 3, _FIRST_NOTES[name]))
    checks = [each["figures"] for each in records.get("random_text", [])]
    for name, title, published, note in (
        ("few", "random text", RANDOM_TEXT, f"chance: {task.CHANCE:.4f} ± 0.0038; 800 characters"),
        ("many", "random text", None, _characters(checks)),
        ("untrained", "random text, random weights", None, _characters(checks)),
        ("example", "a role's text, pretrained", "0.391", "another pretrained model"),
    ):
        made.append(Row(title, "accuracy", published, [each[name] for each in checks], 4, note))
    found = gains(records)
    for name, (title, _) in {**EXTENSIONS, **WEIGHTS}.items():
        if name in _BASES.values():
            ours = [100 * measures.last(each, "roles_accuracy") for each in records.get(name, [])]
            note = "the base of the " + ("weights" if name in WEIGHTS else "extensions")
            made.append(Row(title, "accuracy, %", None, ours, 2, note))
        else:
            note = _helped(found[name]) if name in found else ""
            made.append(Row(title, "above the base, points", None, found.get(name, []), 2, note))
    return made


def _characters(checks):
    return f"{checks[0]['characters']:,.0f} characters" if checks else ""


def _helped(differences):
    """Says whether all seeds agree, of which there are at least two, on a gain that matters."""
    if len(differences) < 2:
        return "one seed"
    if abs(statistics.fmean(differences)) < SMALLEST_GAIN:
        return "undecided"
    if all(each > 0 for each in differences):
        return "helps"
    return "hurts" if all(each < 0 for each in differences) else "undecided"


def verdict(records):
    if not {"healthy", "collapsed"} <= set(records):
        return Verdict(None, "The two runs of the tutorial have not been recorded.")
    ends = {
        name: [
            statistics.fmean(measures.curve(each, "example_accuracy")[1][end] for each in found)
            for end in (0, -1)
        ]
        for name, found in records.items()
        if name in ("healthy", "collapsed")
    }
    (before, healthy), (_, collapsed) = ends["healthy"], ends["collapsed"]
    told = (
        f"Federated training takes the accuracy from {before:.3f} to {healthy:.3f}. With random "
        f"recurrent weights on the clients it falls to {collapsed:.3f}."
    )
    steps = [
        f"{statistics.fmean(each['figures']['loss'] for each in records[name]):.3f} "
        f"(published: {FIRST_STEP[name][0]:.3f})"
        for name in FIRST_STEP
        if name in records
    ]
    if len(steps) == 2:
        told += (
            f" One round from random weights has the train loss {steps[0]}, and {steps[1]} if the "
            "clients lose the recurrent weights."
        )
    differences = gains(records)
    for kind, word in (
        ("helps", "Helped"),
        ("hurts", "Hurt"),
        ("one seed", "With one seed"),
    ):
        named = [
            f"{_title(name)} ({statistics.fmean(each):+.1f})"
            for name, each in differences.items()
            if _helped(each) == kind
        ]
        if named:
            told += f" {word}, in points of accuracy: {', '.join(named)}."
    return Verdict(healthy > before and collapsed < before / 2, told)


def _title(name):
    return {**EXTENSIONS, **WEIGHTS}[name][0]


_CURVES = {
    "2020-02-18": (common.BLUE, "published 2020-02-18"),
    "2020-07-21": (common.ORANGE, "published 2020-07-21"),
    "2022-06-16": (common.VERMILION, "published 2022-06-16"),
}


def draw(records, file):
    """Draws accuracy and train loss as published and here, and what each extension gained."""
    with common.picture(file, 12, 4.4, columns=3, width_ratios=[1, 1, 1.1]) as (figure, [axes]):
        accuracy, loss, gained = axes
        for date, (color, label) in _CURVES.items():
            _, accuracies, losses = PUBLISHED[date]
            accuracy.plot(range(6), accuracies, "--", color=color, label=label)
            loss.plot(range(1, 6), losses, "--", color=color)
        for name, color, label in (
            ("healthy", common.BLUE, "here, trained"),
            ("collapsed", common.VERMILION, "here, recurrent weights lost"),
        ):
            for axis, column in ((accuracy, "example_accuracy"), (loss, "train_loss")):
                measures.plot(axis, records.get(name, []), column, label=label, color=color)
        accuracy.axhline(task.CHANCE, color=common.GREY, linewidth=1)
        accuracy.text(5, task.CHANCE + 0.01, "chance, 1/86", color=common.GREY, ha="right")
        accuracy.set(xlabel="round", ylabel="evaluation accuracy", ylim=(0, 0.65))
        loss.set(xlabel="round", ylabel="train loss", ylim=(0, None), xticks=range(1, 6))
        loss.legend(*accuracy.get_legend_handles_labels(), frameon=False, loc="lower left")
        found = list(gains(records).items())[::-1]
        for y, (_, differences) in enumerate(found):
            gained.plot(differences, [y] * len(differences), "o", color=common.BLUE, alpha=0.7)
        gained.axvline(0, color=common.GREY, linewidth=1)
        gained.set(xlabel="accuracy above the base, points", yticks=range(len(found)))
        gained.set_yticklabels([_title(name) for name, _ in found], fontsize=7)
        for axis in axes:
            axis.grid(alpha=0.3)
        if not found:
            gained.set_visible(False)


STUDY = Study(
    name="tff_tutorial",
    title="Federated Learning for Text Generation",
    paper="TFF's text generation tutorial",
    url="https://www.tensorflow.org/federated/tutorials/federated_learning_for_text_generation",
    claim="Federated averaging improves a pretrained model; the tutorial's later outputs collapse "
    "because its clients start from random recurrent weights.",
    data="TFF's federated Shakespeare. fedlab's own Dickens model replaces the published one.",
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=10,
)
