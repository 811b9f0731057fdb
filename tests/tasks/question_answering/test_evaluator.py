"""Exact match, F1 and loss of a model in the rounds of a run."""

import json

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.datasets import squad
from fedlab.tasks.question_answering import spans
from fedlab.tasks.question_answering.evaluator import Evaluator, cross_entropy


@pytest.fixture(scope="module")
def windows():
    return squad.synthetic_windows(num_clients=3, num_paragraphs=2)


def small_model():
    tf.keras.utils.set_random_seed(1)
    sizes = dict(
        vocab_size=len(squad.SYNTHETIC_VOCABULARY),
        hidden_size=8,
        intermediate_size=16,
        num_layers=1,
        num_heads=1,
        dropout=0,
    )
    return fl.models.bert.question_answering(length=48, learning_rate=0.01, **sizes)


def test_cross_entropy_by_hand():
    logits = np.log([[[0.5, 0.25, 0.25], [0.5, 0.125, 0.375]], [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]])
    expected = -(np.log(0.25) + np.log(0.375)) / 2
    assert cross_entropy(logits, np.array([[1, 2], [0, 0]])) == pytest.approx(
        expected
    )  # the second window does not hold its answer
    assert cross_entropy(logits + 1000, np.array([[1, 2], [0, 0]])) == pytest.approx(expected)


@pytest.mark.slow
def test_a_run_has_the_scores_in_its_rows(windows, tmp_path):
    train, test = windows
    model, evaluate = small_model(), Evaluator(test, batch_size=5)
    data = squad.clients(test)
    options = dict(
        rounds=2,
        clients_per_round=2,
        seed=1,
        progress=False,
        evaluate_on={"held_out": evaluate, "columns": data},
    )
    run = fl.simulate(model, squad.clients(train), run_dir=tmp_path / "run", **options)
    for row in run.history:
        assert row["held_out_loss"] == pytest.approx(
            row["columns_loss"], rel=1e-5
        )  # here every window holds its answer
    found = spans.answers(test, spans.logits(run.model, test))
    scores = fl.question_answering.scores.summary(
        fl.question_answering.scores.scores(test.questions, spans.predictions(test, found))
    )
    assert [run.history[-1][f"held_out_{name}"] for name in ("exact_match", "f1")] == [
        scores["exact_match"],
        scores["f1"],
    ]
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["evaluation_examples"][
        "held_out"
    ]
    assert (recorded["name"], recorded["questions"], recorded["windows"]) == (
        "questions",
        len(test.questions),
        test.num_windows,
    )
    options["evaluate_on"]["held_out"] = Evaluator(test.select(range(4)))
    with pytest.raises(
        ValueError, match="holds a run of other settings: evaluation_examples.held_out.questions is"
    ):
        fl.simulate(model, squad.clients(train), run_dir=tmp_path / "run", **options)


def test_mistakes(windows):
    questions = squad.synthetic_questions(2, unanswerable=1.0)[1]
    without_answers = squad.make_windows(
        questions, squad.SYNTHETIC_VOCABULARY, cache=False, max_length=48
    )
    with pytest.raises(
        ValueError,
        match="windows: expected one that contains its answer, .* evaluate on questions that have",
    ):
        Evaluator(without_answers)
    with pytest.raises(ValueError, match="windows of 32 tokens: expected 48"):
        Evaluator(squad.synthetic_windows(2, max_length=32)[1])(small_model())
