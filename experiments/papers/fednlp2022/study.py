"""SQuAD with clients by article, by topic, and alike (Lin et al. 2022, FedNLP)."""

import statistics

from experiments import common
from experiments.papers import measures
from experiments.papers.fednlp2022 import task
from experiments.papers.study import Case, Outcome, Row, Study, Verdict

# case: (partition, method, title)
RUNS = {
    "uniform": ("uniform", "fed_opt", "FedOPT, uniform clients"),
    "topic": ("topic", "fed_opt", "FedOPT, clients by topic"),
    "article": ("article", "fed_opt", "FedOPT, clients by article"),
    "topic_fed_avg": ("topic", "fed_avg", "FedAvg, clients by topic"),
    "topic_fed_prox": ("topic", "fed_prox", "FedProx, clients by topic"),
    "centralized": ("centralized", "fed_opt", "centralized: one client with all questions"),
}
_COLORS = dict(
    zip(
        RUNS,
        (
            common.BLUE,
            common.VERMILION,
            common.GREEN,
            common.ORANGE,
            common.PINK,
            common.GREY,
        ),
    )
)

_SKEWED = ("topic", "article")
_SCORES = {"test_f1": "F1", "test_exact_match": "exact match"}

# Counts in the authors' repository, data/advanced_partition/README.md: 122,325 answers;
# sizes 4077.5 +- 1776.99 of 30 clusters and 1223.25 +- 143.40 of 100 clients with alpha 1.
_PUBLISHED = {
    "articles": 442,
    "answers": 122_325,
    "topic_spread": 1776.99 / 4077.5,
    "capped_spread": 143.40 / 1223.25,
}

# The settings of the authors' sweep_se.py and run_span_extraction.sh. The counts of the
# data, the case "data", are cheap and part of every scale.
_PAPER = dict(
    source="json",
    pretrained="minilm",
    sizes={},
    frozen_blocks=None,
    max_length=128,
    all_windows=True,
    num_clients=100,
    num_topics=30,
    alpha=0.1,
    rounds=20,
    clients_per_round=10,
    batch_size=16,
    max_batches=None,
    adam_rate=5e-5,
    sgd_rate=0.1,
    clip_norm=1.0,
    mu=0.5,
    precision="bfloat16",
    evaluate_every=2,
    evaluation_questions=3000,
    max_answer_length=100,
    runs=list(RUNS),
    seeds=[0],
)
SCALES = {
    "smoke": {
        **_PAPER,
        "source": "synthetic",
        "pretrained": None,
        "sizes": {"hidden_size": 8, "num_heads": 2, "num_layers": 1, "intermediate_size": 16},
        "frozen_blocks": 0,
        "max_length": 48,
        "all_windows": False,
        "num_clients": 4,
        "num_topics": 3,
        "rounds": 1,
        "clients_per_round": 2,
        "max_batches": 2,
        "precision": "float32",
        "evaluate_every": 1,
        "evaluation_questions": 20,
        "max_answer_length": 10,
        "runs": ["topic_fed_prox", "centralized"],
    },
    "small": {
        **_PAPER,
        "frozen_blocks": 0,
        "all_windows": False,
        "rounds": 10,
        "clients_per_round": 2,
        "batch_size": 8,
        "max_batches": 20,
        "adam_rate": 1e-4,
        "evaluate_every": 5,
        "evaluation_questions": 200,
        "max_answer_length": 30,
        "runs": ["uniform", "topic", "article", "centralized"],
        "seeds": [0, 1],
    },
    "paper": _PAPER,
}


def cases(settings):
    # The run with all questions in one place is a baseline, for which one seed will do.
    return [
        Case(name, seed)
        for i, seed in enumerate(settings["seeds"])
        for name in ("data", *settings["runs"])
        if i == 0 or name != "centralized"
    ]


def train(case, setup):
    import fedlab as fl

    settings = setup.settings
    windows, test = task.load_windows(settings["source"], setup.path, settings["max_length"])
    asked = task.draw_questions(test, settings["evaluation_questions"])
    if case.name == "data":
        chance = task.chance(asked, settings["max_answer_length"])
        counts = task.count(windows, test, settings, case.seed)
        return Outcome([], {**counts, **{f"chance_{name}": chance[name] for name in chance}})
    partition, method, _ = RUNS[case.name]
    prox = method == "fed_prox"
    algorithm = fl.algorithms.fed_prox(settings["mu"]) if prox else fl.algorithms.fed_avg()
    run = fl.simulate(
        task.make_model(windows, method, settings, case.seed),
        task.make_clients(windows, partition, settings, case.seed),
        algorithm,
        **cohort_options(partition, settings),
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        seed=case.seed,
        evaluate_on={
            "test": fl.question_answering.Evaluator(
                asked, max_answer_length=settings["max_answer_length"]
            )
        },
        run_dir=setup.run_dir,
        num_workers=setup.num_workers,
    )
    return Outcome(run.history, {"windows": sum(row["examples"] for row in run.history[1:])})


def cohort_options(partition, settings):
    """Returns rounds, clients and steps of a run, as arguments of `fedlab.simulate`.

    One client with all questions takes as many steps in a round as the clients of a
    federated round together. If clients have no limit of steps, it makes as many passes
    over the questions, one per round, as a federated run of equally large clients.
    """
    options = {name: settings[name] for name in ("rounds", "max_batches", "evaluate_every")}
    cohort = settings["clients_per_round"]
    if partition != "centralized":
        return {**options, "clients_per_round": cohort}
    options["clients_per_round"] = 1
    if options["max_batches"]:
        return {**options, "max_batches": options["max_batches"] * cohort}
    passes = max(1, settings["rounds"] * cohort // settings["num_clients"])
    return {**options, "rounds": passes, "evaluate_every": 1}


def rows(records):
    runs = {name: records[name] for name in RUNS if name in records}
    found = _rows_of_data(records.get("data", []))
    for start in list(runs.values())[:1]:  # all runs of a seed start from the same model
        values = {
            name: [measures.curve(record, name)[1][0] for record in start] for name in _SCORES
        }
        found += _rows_of_scores("before training", values)
    for name, seeds in runs.items():
        values = {score: [measures.last(record, score) for record in seeds] for score in _SCORES}
        windows = statistics.fmean(record["figures"]["windows"] for record in seeds)
        found += _rows_of_scores(RUNS[name][2], values, f"{windows:,.0f} windows trained on")
    return found


def _rows_of_data(seeds):
    """Returns the rows of the counts that the authors published, and of random answers."""
    if not seeds:
        return []
    figures = {name: [record["figures"][name] for record in seeds] for name in seeds[0]["figures"]}
    settings = seeds[0]["settings"]
    published = _PUBLISHED if settings["source"] == "json" else {}
    clients, topics = settings["num_clients"], settings["num_topics"]
    spread, dirichlet = "deviation of their sizes / mean", f"{clients} clients, Dirichlet(1)"
    words = "theirs: clusters of sentence embeddings; here: of the words of the paragraphs"
    counts = [
        ("articles", "clients by article", "clients", 0, ""),
        ("article_questions", "clients by article", "questions of the median client", 0, ""),
        ("topic_questions", "clients by topic", "questions of the median client", 0, ""),
        ("answers", "both files", "answers", 0, ""),
        ("topic_spread", f"{topics} topics", spread, 2, words),
        ("capped_spread", dirichlet, spread, 2, "with the rule of their code"),
        ("dirichlet_spread", dirichlet, spread, 2, "with `partitioners.dirichlet`, without a cap"),
    ]
    found = [
        Row(name, measure, published.get(key), _distinct(figures[key]), digits, note)
        for key, name, measure, digits, note in counts
    ]
    chance = {name: _distinct(figures[name.replace("test", "chance")]) for name in _SCORES}
    return [*found, *_rows_of_scores("random answers", chance)]


def _distinct(values):
    """Returns one value if all are the same, because they do not depend on the seed."""
    return values[:1] if len(set(values)) == 1 else values


def _rows_of_scores(name, values, note=""):
    notes = {"test_f1": note}
    return [
        Row(name, f"{title}, %", None, values[score], 1, notes.get(score, ""))
        for score, title in _SCORES.items()
    ]


def verdict(records):
    missing = [name for name in ("uniform", *_SKEWED) if name not in records]
    if missing:
        return Verdict(None, f"Not run yet: {', '.join(missing)}.")
    f1 = {
        name: [measures.last(record, "test_f1") for record in records[name]]
        for name in RUNS
        if name in records
    }
    mean = {name: statistics.fmean(values) for name, values in f1.items()}
    if all(max(f1[name]) < min(f1["uniform"]) for name in _SKEWED):
        holds, told = True, "All runs with uniform clients have a higher F1 than the others"
    elif any(min(f1[name]) >= max(f1["uniform"]) for name in _SKEWED):
        holds, told = False, "The runs with uniform clients do not have the highest F1"
    else:
        holds, told = None, "The scores of single runs overlap"
    told += (
        f". Mean F1: {mean['uniform']:.1f} % with uniform clients, {mean['topic']:.1f} % by topic "
        f"and {mean['article']:.1f} % by article."
    )
    if "centralized" in mean:
        told += f" Training with all questions in one place gives {mean['centralized']:.1f} %."
    return Verdict(holds, told)


def draw(records, file):
    with common.picture(file, 6, 3.8) as (_, [[axis]]):
        last = _last_round(records)
        for name, (_, _, title) in RUNS.items():
            for i, record in enumerate(records.get(name, [])):
                numbers, values = measures.curve(record, "test_f1")
                # One client with all questions may have fewer and longer rounds.
                numbers = [number * last / numbers[-1] for number in numbers]
                style = dict(color=_COLORS[name], alpha=0.8, marker="o", markersize=3)
                axis.plot(numbers, values, label=None if i else title, **style)
        for record in records.get("data", [])[:1]:
            axis.axhline(
                record["figures"]["chance_f1"],
                color=common.LIGHT_GREY,
                linestyle=":",
                label="random answers",
            )
        axis.set(xlabel="round", ylabel="F1 on held-out articles, %", ylim=(0, None))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)


def _last_round(records):
    return max(
        (record["rows"][-1][0] for name in RUNS for record in records.get(name, [])), default=0
    )


STUDY = Study(
    name="fednlp2022",
    title="FedNLP: Benchmarking Federated Learning Methods for Natural Language Processing Tasks",
    paper="Lin et al. 2022",
    url="https://arxiv.org/abs/2104.08815",
    claim=(
        "On SQuAD, clients by topic or by article lead to a lower F1 than uniform clients after "
        "as many rounds."
    ),
    data=(
        "SQuAD 1.1. Clients have questions of its 442 training articles; a sample of the "
        "questions of the other 48 articles is answered."
    ),
    scales=SCALES,
    cases=cases,
    train=train,
    rows=rows,
    verdict=verdict,
    draw=draw,
    order=9,
)
