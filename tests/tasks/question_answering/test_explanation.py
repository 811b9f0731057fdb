"""LIME finds the words that a model is known to use; explanations are deterministic."""

import re

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.datasets import squad
from fedlab.tasks.question_answering import explanation
from fedlab.tasks.question_answering import explanation_plot as plots

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "where",
    "when",
    "?",
    "alpha",
    "beta",
    "gamma",
    "delta",
    "x",
    ".",
    ",",
    "##s",
)


def inputs_of(length=None):
    return {
        name: tf.keras.Input([length], dtype="int32", name=name)
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }


def table(scores, width):
    values = np.zeros([len(WORDS), width], np.float32)
    for word, score in scores.items():
        values[WORDS.index(word)] = score
    return values


def answering_model(scores, cue=0.0, length=None):
    """Start and end logits are a token's score; where "where" is asked, "gamma" gains `cue`."""
    inputs = inputs_of(length)
    x = tf.keras.layers.Embedding(len(WORDS), 2, weights=[table(scores, 2)], name="words")(
        inputs["input_ids"]
    )

    def with_cue(tensors):
        ids, x = tensors
        where = tf.cast(ids == WORDS.index("where"), tf.float32)
        gamma = tf.cast(ids == WORDS.index("gamma"), tf.float32)
        asked = tf.reduce_max(where, axis=1, keepdims=True)
        return x + cue * (asked * gamma)[:, :, None]

    x = tf.keras.layers.Lambda(with_cue)([inputs["input_ids"], x])
    return tf.keras.Model(inputs, tf.keras.layers.Permute([2, 1])(x))


def classifying_model(scores, num_classes=2, softmax=False):
    """Logits are the sums of the words' scores."""
    inputs = inputs_of()
    x = tf.keras.layers.Embedding(
        len(WORDS), num_classes, weights=[table(scores, num_classes)], name="words"
    )(inputs["input_ids"])

    def total(tensors):
        x, mask = tensors
        return tf.reduce_sum(x * tf.cast(mask, tf.float32)[:, :, None], axis=1)

    x = tf.keras.layers.Lambda(total)([x, inputs["attention_mask"]])
    return tf.keras.Model(
        inputs,
        tf.keras.layers.Activation("softmax")(x)
        if softmax
        else tf.keras.layers.Activation("linear")(x),
    )


def explain_answer(model, question="Where?", context="Alpha, beta gammas delta.", **options):
    return explanation.explain_answer(
        model, question, context, WORDS, **{"num_samples": 200, "num_words": 4, **options}
    )


# ---- Answers ----


def test_the_words_that_an_answer_hangs_on():
    """ "beta" scores 2, and nothing else is looked at but "delta", which competes with it."""
    found = explain_answer(answering_model({"beta": 2.0, "delta": 1.5}))
    assert found.label == "beta" and (found.span.start, found.span.end) == (7, 11)
    assert found.probability == pytest.approx(found.span.probability, rel=1e-6)
    first, second, *rest = found.words
    assert (first.text, first.part, first.start) == ("beta", "context", 7) and first.weight > 0
    assert (second.text, second.part, second.start) == (
        "delta",
        "context",
        19,
    ) and second.weight < 0
    assert all(abs(word.weight) < 0.3 * abs(second.weight) for word in rest)
    assert 0.5 < found.fit <= 1


def test_a_word_of_the_question():
    found = explain_answer(answering_model({"alpha": 0.5}, cue=2.0), question="When? \n Where?")
    assert found.label == "gamma"
    weights = {(word.part, word.text, word.start): word.weight for word in found.words}
    assert weights["question", "Where", 6] > 0 and found.parts["question"] == "When? Where?"


def test_perturbed_texts_are_scored_at_the_same_place():
    """The answer's place is scored whichever words before it are masked."""
    model = answering_model({"beta": 2.0, "delta": 1.0})
    context = "Beta x, alpha beta gammas delta x."
    lime_text = explanation._LimeText({"question": "Where?", "context": context})
    for word in ("x", "alpha", "beta", "gammas", "Beta"):
        perturbed = f"Where?\n{context}".replace(word, lime_text._mask)
        start = context.index("delta")
        begin, end = lime_text.moved(perturbed, "context", start, start + 5)
        assert perturbed[begin:end] == "delta"
        begin, end = lime_text.moved(
            perturbed, "context", context.index(word), context.index(word) + len(word)
        )
        assert perturbed[begin:end] == lime_text._mask
    # Part of a word, and two words with what is between.
    assert lime_text.moved(f"Where?\n{context}", "context", 1, 3) == (8, 10)
    perturbed = f"Where?\n{context}".replace("alpha", lime_text._mask)
    begin, end = lime_text.moved(
        perturbed, "context", context.index("alpha"), context.index("alpha") + 10
    )
    assert perturbed[begin:end] == f"{lime_text._mask} beta"
    assert explain_answer(model, context=context).label in ("Beta", "beta")


@pytest.mark.parametrize("length", [None, 16])
def test_an_answer_in_a_later_window(length):
    context = " ".join(["Alpha."] * 12 + ["beta"] + ["alpha,"] * 12)
    found = explain_answer(
        answering_model({"beta": 2.0}, length=length), context=context, max_length=16, num_words=3
    )
    assert found.label == "beta"
    assert (found.words[0].text, found.words[0].start) == (
        "beta",
        context.index("beta"),
    ) and found.words[0].weight > 0


def test_a_word_of_a_hundred_letters_and_one():
    context = f"{'x' * 101} beta {'q' * 150} x"
    found = explain_answer(answering_model({"beta": 2.0}), context=context)
    assert found.words[0].text == "beta"


# ---- Classes ----


def test_the_words_that_a_class_hangs_on():
    model = classifying_model({"beta": [2.0, 0.0], "delta": [0.0, 1.0]})
    found = explanation.explain_class(
        model, "Alpha, beta delta x.", WORDS, class_names=["greek", "other"], num_samples=200
    )
    assert found.label == "greek" and found.span is None
    assert found.probability == pytest.approx(1 / (1 + np.exp(-1.0)), rel=1e-6)
    assert [(word.text, word.part, word.start) for word in found.words[:2]] == [
        ("beta", "text", 7),
        ("delta", "text", 12),
    ]
    assert found.words[0].weight > 0 > found.words[1].weight


def test_a_model_that_gives_probabilities():
    scores = {"beta": [2.0, 0.0], "delta": [0.0, 1.0]}
    logits, chances = (
        explanation.explain_class(
            classifying_model(scores, softmax=softmax), "beta delta x", WORDS, num_samples=50
        )
        for softmax in (False, True)
    )
    assert logits.label == chances.label == "class 0"
    assert logits.probability == pytest.approx(chances.probability, rel=1e-6)
    np.testing.assert_allclose(
        [w.weight for w in logits.words], [w.weight for w in chances.words], rtol=1e-4, atol=1e-6
    )


def test_a_text_that_is_too_long_is_cut():
    model = classifying_model({"beta": [5.0, 0.0], "delta": [0.0, 1.0]})
    text = "delta " + "x " * 20 + "beta"
    assert explanation.explain_class(model, text, WORDS, num_samples=20).label == "class 0"
    assert (
        explanation.explain_class(model, text, WORDS, num_samples=20, max_length=16).label
        == "class 1"
    )


def test_bert_classification():
    tf.keras.utils.set_random_seed(1)
    model = fl.models.bert.classification(
        3, vocab_size=58, hidden_size=8, intermediate_size=16, num_layers=1, length=32
    )
    found = explanation.explain_class(
        model, "Anna sold the map in Oslo.", squad.SYNTHETIC_VOCABULARY, num_samples=30
    )
    assert len(found.words) == 6 and 1 / 3 <= found.probability <= 1


# ---- The same twice; pages and pictures ----


def test_the_same_explanation_twice(tmp_path):
    model = answering_model({"beta": 2.0, "delta": 1.5})
    first, second = (explain_answer(model, seed=4) for _ in range(2))
    assert first[:-1] == second[:-1]
    pages = []
    for i, found in enumerate((first, first, second)):
        plots.draw(found, tmp_path / f"{i}.png")
        pages.append((found.html(), (tmp_path / f"{i}.png").read_bytes()))
    assert pages[0] == pages[1] == pages[2]
    assert explain_answer(model, seed=5).words != first.words
    small, large = (explain_answer(model, seed=4, batch_size=size) for size in (5, 64))
    np.testing.assert_allclose(
        [word.weight for word in small.words],
        [word.weight for word in large.words],
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_page_runs_no_script_of_the_text():
    model = classifying_model({"beta": [2.0, 0.0]})
    script = "</script><script>alert(1)</script>"
    found = explanation.explain_class(
        model, f"beta {script}", WORDS, class_names=[script, "b"], num_samples=20
    )
    page = found.html()
    assert found.label == script and script not in page
    assert page.count(re.sub("[<>&]", "|", script)) >= 2  # once in the text, once as the class


def test_the_picture_colours_the_words(tmp_path):
    found = explain_answer(
        answering_model({"beta": 2.0, "delta": 1.5}),
        context="Alpha, beta gammas delta. " + "x $1 \t\n" * 90,
    )
    above, below = plots.figure(found).axes
    assert [bar.get_width() for bar in below.patches] == [word.weight for word in found.words]
    assert [label.get_text().split("  ")[0] for label in below.get_yticklabels()] == [
        word.text for word in found.words
    ]
    assert len(above.patches) == len([word for word in found.words if word.weight])
    letters = "".join(text.get_text() for text in above.texts).replace("\\$", "$")
    assert letters == f"question:Where?context:{''.join(found.parts['context'].split())}"


# ---- Mistakes ----


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("", "Alpha"), {}, "question='': expected a text that is not empty"),
        (("Where?", None), {}, "context=None: expected"),
        ((None, "Alpha"), {}, "question=None: expected"),
        (("?", "..."), {}, "expected a word"),
        (
            ("Where?", "Alpha"),
            {"num_samples": 9},
            "num_samples=9: expected an integer of at least 10",
        ),
        (("Where?", "Alpha"), {"num_words": 0}, "num_words=0: expected"),
        (("Where?", "Alpha"), {"batch_size": 0}, "batch_size=0: expected"),
        (("Where?", "Alpha"), {"seed": -1}, "seed=-1"),
    ],
)
def test_inputs_that_cannot_be_explained_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        explanation.explain_answer(answering_model({}), *arguments, WORDS, **options)


def test_models_that_do_not_fit():
    answering, classifying = answering_model({}), classifying_model({})
    with pytest.raises(ValueError, match="the vocabulary has 14 tokens: expected 15"):
        explanation.explain_answer(answering, "Where?", "Alpha", WORDS[:-1])
    with pytest.raises(ValueError, match="the vocabulary has 14 tokens: expected 15"):
        explanation.explain_class(classifying, "Alpha", WORDS[:-1])
    with pytest.raises(ValueError, match="logits of shape"):
        explanation.explain_answer(classifying, "Where?", "Alpha", WORDS)
    with pytest.raises(
        ValueError, match="expected outputs .texts, classes., got .*; if it answers questions"
    ):
        explanation.explain_class(answering, "Alpha", WORDS)
    with pytest.raises(ValueError, match="3 class names: expected 2"):
        explanation.explain_class(classifying, "Alpha", WORDS, class_names=["a", "b", "c"])
    with pytest.raises(ValueError, match="text='  ': expected"):
        explanation.explain_class(classifying, "  ", WORDS)
    with pytest.raises(ValueError, match="expected finite outputs"):
        explanation.explain_class(classifying_model({"x": [np.nan, 0.0]}), "x", WORDS)
