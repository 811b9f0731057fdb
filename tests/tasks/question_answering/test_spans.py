"""Best spans: against trying every one, settings, no answer, and a trained model."""

import math

import numpy as np
import pytest

from fedlab.datasets import squad
from fedlab.tasks.question_answering import scores as squad_metrics
from fedlab.tasks.question_answering import spans


@pytest.fixture(scope="module")
def windows():
    """Questions with two windows or more each, of 20 positions."""
    made, _ = squad.synthetic_windows(
        2, num_paragraphs=2, max_length=20, stride=4, max_question_length=7
    )
    assert np.bincount(made.question).min() >= 2
    return made


def random_logits(windows, seed=0):
    return (
        np.random.default_rng(seed)
        .normal(size=[windows.num_windows, 2, windows.max_length])
        .astype(np.float32)
    )


def every_span(windows, logits, number, max_answer_length):
    """(score, start, end) of all legal spans of a question, by trying every pair of tokens."""
    found = []
    for window in np.flatnonzero(windows.question == number):
        at, count = windows.at[window], windows.count[window]
        for first in range(at, at + count):
            for last in range(first, min(first + max_answer_length, at + count)):
                score = float(logits[window, 0, first]) + float(logits[window, 1, last])
                found.append((score, *windows.characters(window, first, last)))
    return found


@pytest.mark.parametrize("max_answer_length", [1, 3, 30])
def test_the_best_of_all_legal_spans(windows, max_answer_length):
    logits = random_logits(windows)
    for number, [best] in enumerate(
        spans.answers(windows, logits, max_answer_length=max_answer_length)
    ):
        everything = every_span(windows, logits, number, max_answer_length)
        score, start, end = max(everything)
        assert (best.start, best.end) == (start, end) and best.score == pytest.approx(score)
        assert best.text == windows.questions[number].context[start:end]
        assert best.probability == pytest.approx(
            math.exp(score) / sum(math.exp(s) for s, _, _ in everything)
        )
        assert windows.question[best.window] == number


def test_several_answers_are_different_and_in_order(windows):
    logits = random_logits(windows, 1)
    for number, best in enumerate(spans.answers(windows, logits, num_best=5, max_answer_length=4)):
        highest = {}
        for score, start, end in every_span(windows, logits, number, 4):
            highest[start, end] = max(score, highest.get((start, end), -math.inf))
        expected = sorted(highest.items(), key=lambda item: -item[1])[:5]
        assert [(span.start, span.end) for span in best] == [place for place, _ in expected]
        assert [span.score for span in best] == pytest.approx([score for _, score in expected])


def test_more_answers_than_there_are(windows):
    one = windows.select([0])
    [best] = spans.answers(one, random_logits(one), num_best=10_000, max_answer_length=2)
    assert len(best) == len(
        {(start, end) for _, start, end in every_span(one, random_logits(one), 0, 2)}
    )


def test_the_labels_logits_give_the_gold_answers(windows):
    logits = np.zeros([windows.num_windows, 2, windows.max_length], np.float32)
    for window, (start, end) in enumerate(windows.y):
        logits[window, 0, start] += 9
        logits[window, 1, end] += 9
    predictions = spans.predictions(windows, spans.answers(windows, logits))
    assert squad_metrics.summary(squad_metrics.scores(windows.questions, predictions)) == {
        "exact_match": 100.0,
        "f1": 100.0,
        "total": len(windows.questions),
    }


def test_neither_question_nor_padding_nor_reversed_spans_are_legal():
    made, _ = squad.synthetic_windows(1, num_paragraphs=1)
    logits = np.zeros([made.num_windows, 2, made.max_length], np.float32)
    at, count = int(made.at[0]), int(made.count[0])
    logits[0, :, [0, 1, at - 1, at + count, made.max_length - 1]] = (
        100  # what is not of the context
    )
    logits[0, 0, at + 5], logits[0, 1, at + 2] = 7, 8  # together the highest, but reversed
    logits[0, 1, at + 6] = 3
    assert (best := spans.answers(made, logits)[0][0]).score == 10
    assert (best.start, best.end) == made.characters(0, at + 5, at + 6)


def test_no_answer_and_its_threshold(windows):
    logits = np.zeros([windows.num_windows, 2, windows.max_length], np.float32)
    logits[:, :, 0] = 2.0  # 4 for no answer
    rows = np.flatnonzero(windows.question == 0)
    logits[rows[-1], :, 0] = 1.5  # the lowest window's counts: 3
    logits[rows[0], 0, windows.at[rows[0]]] = 1.0  # the best span: 1
    assert (
        spans.answers(windows, logits)[0][0].score == 1.0
    )  # SQuAD 1.1 has an answer to everything
    for threshold, text in ((1.9, ""), (2.0, windows.questions[0].context.split()[0]), (-5.0, "")):
        best = spans.answers(windows, logits, null_threshold=threshold)[0]
        assert best[0].text == text and {span.text for span in best} == {
            "",
            windows.questions[0].context.split()[0],
        }
        null = next(span for span in best if not span.text)
        assert (null.score, null.start, null.end, null.window) == (3.0, 0, 0, -1)
    legal = len(every_span(windows, logits, 0, 30))
    starts_there = int(windows.count[rows[0]])  # spans that begin with the one raised token
    assert null.probability == pytest.approx(
        math.exp(3) / (math.exp(3) + legal - starts_there + starts_there * math.e)
    )


def test_logits_and_settings_that_are_refused(windows):
    logits = random_logits(windows)
    with pytest.raises(ValueError, match=r"logits of shape \[1, 2, 20\]: expected \[\d+, 2, 20\]"):
        spans.answers(windows, logits[:1])
    with pytest.raises(ValueError, match="expected finite"):
        spans.answers(windows, np.where(logits > 1, np.nan, logits))
    with pytest.raises(ValueError, match="num_best=0"):
        spans.answers(windows, logits, num_best=0)
    with pytest.raises(ValueError, match="max_answer_length=0: expected"):
        spans.answers(windows, logits, max_answer_length=0)


def small_reader(vocabulary_size, length):
    """A small reader that compares each token of the context with the question."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    inputs = {
        name: tf.keras.Input([length], dtype="int32", name=name)
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    x = layers.Embedding(vocabulary_size, 32)(inputs["input_ids"]) + layers.Embedding(2, 32)(
        inputs["token_type_ids"]
    )
    mask = inputs["attention_mask"][:, None]
    for _ in range(2):
        x = layers.LayerNormalization()(
            x + layers.Conv1D(32, 7, padding="same", activation="relu")(x)
        )
        x = layers.LayerNormalization()(
            x + layers.MultiHeadAttention(2, 16)(x, x, attention_mask=mask)
        )
    outputs = layers.Permute([2, 1], name="start_end")(layers.Dense(2)(x))  # [n, 2, length]
    model = tf.keras.Model(inputs, outputs)
    model.compile(
        tf.keras.optimizers.Adam(3e-3),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "num_facts, epochs, least",
    [
        (1, 4, 90),
        pytest.param(2, 15, 70, marks=pytest.mark.slow),
    ],  # with two facts, one that only knows the kind of word gets 50
)
def test_a_model_learns_the_synthetic_answers(num_facts, epochs, least):
    train, test = squad.synthetic_windows(40, num_facts=num_facts)
    model = small_reader(len(train.vocabulary), 48)

    def exact_match():
        best = spans.answers(test, spans.logits(model, test))
        return squad_metrics.summary(
            squad_metrics.scores(test.questions, spans.predictions(test, best))
        )["exact_match"]

    before = exact_match()
    model.fit(
        squad.clients(train).to_dataset(batch_size=32).shuffle(100, seed=0),
        epochs=epochs,
        verbose=0,
    )
    assert before < 10 and exact_match() > least


def test_a_model_of_other_outputs_is_refused(windows):
    import tensorflow as tf

    inputs = tf.keras.Input([20], dtype="int32", name="input_ids")
    with pytest.raises(ValueError, match=r"logits of shape \[\d+, 20\]: expected \[\d+, 2, 20\]"):
        spans.logits(tf.keras.Model({"input_ids": inputs}, inputs * 2), windows)


def small_run(engine):
    import tensorflow as tf

    import fedlab as fl

    data, _ = squad.synthetic(num_clients=2, num_paragraphs=2)
    model = small_reader(len(squad.SYNTHETIC_VOCABULARY), 48)
    model.optimizer = tf.keras.optimizers.SGD(0.1)
    options = dict(
        rounds=2, cohort=["ARTICLE_0", "ARTICLE_1"], batch_size=4, evaluate_on=data, progress=False
    )
    return fl.simulate(model, data, engine=engine, **options)


@pytest.mark.slow
def test_federated_training_on_the_columns():
    run = small_run("local")
    assert run.history[2]["test_loss"] < run.history[0]["test_loss"]


@pytest.mark.slow
def test_both_engines_train_on_the_columns_alike():
    pytest.importorskip("tensorflow_federated")
    ours, theirs = (small_run(engine).model.get_weights() for engine in ("local", "tff"))
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
