"""Answers from models: which window wins, and what cannot be answered."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.datasets import squad
from fedlab.tasks.question_answering.answering import window_length
from fedlab.tasks.question_answering.wordpiece import WordPiece

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "where", "?", "alpha", "beta", "gamma", "delta", ".")


def model_that_prefers(scores, length=None, words=WORDS):
    """A model whose start and end logits are a token's score, of those it names: word -> score."""
    inputs = {
        name: tf.keras.Input([length], dtype="int32", name=name)
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    table = np.zeros([len(words), 2], np.float32)
    for word, score in scores.items():
        table[words.index(word)] = score
    x = tf.keras.layers.Embedding(len(words), 2, weights=[table], name="words")(inputs["input_ids"])
    return tf.keras.Model(inputs, tf.keras.layers.Permute([2, 1])(x))


@pytest.mark.parametrize("length", [None, 16])
@pytest.mark.parametrize("place", [0, 35, 69], ids=["first", "middle", "last"])
def test_the_best_span_of_all_windows_wins(length, place):
    parts = ["Alpha."] * 70
    parts[place] = "B\u00e9ta\r\n"
    parts[(place + 40) % 70] = "gamma"
    context = " ".join(parts)
    model = model_that_prefers({"beta": 3.0, "gamma": 2.0}, length)
    found = fl.answer(model, "Where?", context, WORDS, max_length=length or 20)
    assert (found.text, found.start, found.score) == ("B\u00e9ta", context.index("B\u00e9ta"), 6.0)
    assert context[found.start : found.end] == found.text


def test_answers_are_no_longer_than_asked_for():
    model = model_that_prefers({"beta": 3.0, "gamma": 2.0, "delta": 2.9})
    context = "Beta gamma delta"
    assert fl.answer(model, "Where?", context, WORDS, max_answer_length=1).text == "Beta"
    found = fl.answer(
        model_that_prefers({"beta": [3.0, 0.0], "delta": [0.0, 3.0]}), "Where?", context, WORDS
    )
    assert (found.text, found.start, found.end, found.score) == (context, 0, len(context), 6.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("", "Alpha"), "question='': expected a text that is not empty"),
        (("Where?", " \r\n"), r"context=' \\r\\n': expected"),
        (("Where?", None), "context=None: expected"),
        (("Where?", "\x00"), "1 questions: expected a usable one.*'a context without tokens': 1"),
        (("Where?", "Alpha \ud83d"), "half of a surrogate pair"),
        (
            ("Where?", "Alpha", WORDS[:-1]),
            "the vocabulary has 10 tokens: expected 11, .* pass the vocab.txt",
        ),
        (("Where?", "Alpha", ["alpha"]), "expected a BERT vocabulary"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(arguments, message):
    question, context, *vocabulary = arguments
    with pytest.raises(ValueError, match=message):
        fl.answer(model_that_prefers({}), question, context, *(vocabulary or [WORDS]))


def test_models_of_another_form():
    with pytest.raises(
        ValueError,
        match="expected the inputs input_ids, token_type_ids, attention_mask, got characters",
    ):
        fl.answer(
            fl.models.char_rnn(units=3, embedding_dim=2), "Where?", "Alpha", WORDS, max_length=16
        )
    with pytest.raises(ValueError, match=r"logits of shape \[1, 3\]"):
        sizes = dict(vocab_size=len(WORDS), hidden_size=8, intermediate_size=8, num_layers=1)
        fl.answer(
            fl.models.bert.classification(3, **sizes), "Where?", "Alpha", WORDS, max_length=16
        )
    diverged = model_that_prefers({"alpha": np.nan})
    with pytest.raises(ValueError, match="expected finite values; .* training diverged"):
        fl.answer(diverged, "Where?", "Alpha", WORDS)


def test_a_vocabulary_is_checked_against_what_bert_embeds():
    model = fl.models.bert.question_answering(
        vocab_size=40, hidden_size=8, intermediate_size=8, num_layers=1
    )
    _, windows = squad.synthetic_windows(2)
    with pytest.raises(ValueError, match="the vocabulary has 58 tokens: expected 40"):
        fl.question_answering.spans.check_model(model, windows)
    _, fitting = squad.synthetic_windows(2, vocabulary=WordPiece(squad.SYNTHETIC_VOCABULARY[:40]))
    fl.question_answering.spans.check_model(model, fitting)


def test_lengths_of_windows():
    sizes = dict(vocab_size=9, hidden_size=8, intermediate_size=8, num_layers=1)
    encoder = fl.models.bert.encoder
    free, short, fixed = (
        encoder(**sizes),
        encoder(max_positions=64, **sizes),
        encoder(length=24, **sizes),
    )
    assert [
        window_length(free),
        window_length(free, 500),
        window_length(short),
        window_length(short, 20),
    ] == [384, 500, 64, 20]
    assert [window_length(fixed), window_length(fixed, 24)] == [24, 24]
    with pytest.raises(
        ValueError, match="max_length=32: expected 24, for which the model is built"
    ):
        window_length(fixed, 32)
    with pytest.raises(
        ValueError, match="max_length=65: expected at most 64, the model's positions"
    ):
        window_length(short, 65)
