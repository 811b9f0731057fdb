"""The FedNLP study: partitions, the published counts, what chance gives, and the verdict."""

import numpy as np
import pytest

from experiments.papers import study as studies
from experiments.papers.fednlp2022 import study, task
from fedlab.datasets import squad
from fedlab.tasks.question_answering import preprocessing
from fedlab.tasks.question_answering.windows import Answer, Question

SMOKE, PAPER = study.SCALES["smoke"], study.SCALES["paper"]


def record(case, f1, seed=0, settings=SMOKE, **figures):
    rows = [[0, 5.0, 0.0], [4, f1, f1 / 2]]
    columns = ["round", "test_f1", "test_exact_match"]
    figures = {"windows": 480, **figures}
    return dict(
        case=case, seed=seed, settings=settings, columns=columns, rows=rows, figures=figures
    )


@pytest.mark.parametrize("partition", task.PARTITIONS)
def test_every_question_belongs_to_one_client(partition, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLAB_CACHE", str(tmp_path))
    questions, _ = squad.synthetic_questions(num_clients=6)
    settings = {"num_clients": 5, "num_topics": 4, "alpha": 0.1}
    found = task.client_questions(questions, partition, settings, seed=1)
    rows = np.concatenate(list(found.values()))
    assert sorted(rows.tolist()) == list(range(len(questions)))
    sizes = [len(own) for own in found.values()]
    if partition == "article":
        assert list(found) == list(dict.fromkeys(question.title for question in questions))
    else:
        assert len(found) == 5 and max(sizes) - min(sizes) <= 1


def test_clients_by_topic_have_few_topics(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLAB_CACHE", str(tmp_path))
    questions, _ = squad.synthetic_questions(num_clients=6)
    topic = squad.question_topics(questions, 4)
    settings = {"num_clients": 5, "num_topics": 4, "alpha": 0.01}
    most = {}
    for partition in ("topic", "uniform"):
        found = task.client_questions(questions, partition, settings, seed=0).values()
        most[partition] = np.mean([np.bincount(topic[own]).max() / len(own) for own in found])
    assert most["topic"] > 0.7 > 0.5 > most["uniform"]


def test_capped_sizes():
    def sizes(alpha):
        return task.capped_sizes(np.array([60, 40]), num_clients=10, alpha=alpha, seed=0)

    assert sizes(1e6) == pytest.approx(np.full(10, 10.0), abs=0.1)
    # Each topic goes to one client. The first one has its share then, and gets no more.
    assert sorted(sizes(1e-4).round(3)) == [0.0] * 8 + [40.0, 60.0]


def test_chance_is_certain_where_only_one_answer_is_possible():
    def windows(context):
        asked = Question("q", "T", context, "who", (Answer("ann", 0),))
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "ann", "bob"]
        return preprocessing.make_windows(
            [asked], preprocessing.word_piece(words), max_length=16, cache=False
        )

    assert task.chance(windows("ann"), 1) == {"exact_match": 100.0, "f1": 100.0}
    assert task.chance(windows("ann bob"), 1)["f1"] in (0.0, 100.0)


def test_one_client_takes_the_steps_of_all():
    limited = {**SMOKE, "rounds": 6, "clients_per_round": 3, "max_batches": 5}
    options = study.cohort_options("centralized", limited)
    assert options == dict(rounds=6, clients_per_round=1, max_batches=15, evaluate_every=1)
    assert study.cohort_options("article", limited)["max_batches"] == 5
    # 20 rounds of 10 of 100 clients read the questions twice.
    options = study.cohort_options("centralized", PAPER)
    assert options == dict(rounds=2, clients_per_round=1, max_batches=None, evaluate_every=1)


@pytest.mark.parametrize(
    "uniform, topic, article, holds",
    [
        ([30, 32], [20, 22], [10, 12], True),
        ([30, 32], [20, 31], [10, 12], None),
        ([30, 32], [20, 22], [40, 30], None),
        ([30, 32], [20, 22], [40, 33], False),
    ],
)
def test_the_verdict(uniform, topic, article, holds):
    given = dict(uniform=uniform, topic=topic, article=article)
    records = {
        name: [record(name, f1, seed) for seed, f1 in enumerate(values)]
        for name, values in given.items()
    }
    found = study.verdict(records)
    assert found.holds is holds
    assert f"{np.mean(uniform):.1f} % with uniform clients" in found.text
    rows = {row.name: row for row in study.rows(records) if row.measure == "F1, %"}
    assert rows["before training"].values == [5.0, 5.0]
    assert rows["FedOPT, clients by article"].values == article
    del records["topic"]
    assert study.verdict(records) == studies.Verdict(None, "Not run yet: topic.")


@pytest.mark.slow
def test_the_published_counts(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLAB_CACHE", str(tmp_path))
    train, test = squad.load_questions("json", path=shared_data / "squad")
    parts = (type("Part", (), {"questions": part}) for part in (train, test))
    counts = task.count(*parts, PAPER, seed=0)
    assert (counts["articles"], counts["answers"]) == (442, 122_325)
    # 100 clients of 1223.25 +- 143.40 answers: their rule gives the same spread of sizes.
    assert counts["capped_spread"] == pytest.approx(143.40 / 1223.25, rel=0.15)
    assert counts["dirichlet_spread"] > 0.17
    assert counts["topic_spread"] == pytest.approx(1776.99 / 4077.5, rel=0.2)
    sizes = {
        name: [len(own) for own in task.client_questions(train, name, PAPER, seed=0).values()]
        for name in task.PARTITIONS
    }
    article = sizes["article"]
    assert (min(article), np.median(article), max(article)) == (22, 169, 817)
    for name in ("uniform", "topic"):
        assert (len(sizes[name]), set(sizes[name])) == (100, {875, 876})
