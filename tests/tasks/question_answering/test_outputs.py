"""Outputs without padding: equal, cheaper, and models for which padding counts."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.datasets import squad
from fedlab.tasks.question_answering import efficacy, explanation, spans
from fedlab.tasks.question_answering.outputs import outputs
from fedlab.tasks.question_answering.windows import Windows

LENGTH = 96
SIZES = dict(
    vocab_size=len(squad.SYNTHETIC_VOCABULARY),
    hidden_size=16,
    intermediate_size=32,
    num_layers=2,
    max_positions=LENGTH,
)


@pytest.fixture(scope="module")
def windows():
    """Questions about 1 to 9 sentences, of 20 to 94 tokens, short and long ones in turn."""
    parts = [
        squad.synthetic_questions(2, num_paragraphs=2, num_facts=facts)[1] for facts in (9, 1, 6, 3)
    ]
    mixed = [
        question._replace(question_id=f"{q} {p}")
        for q, row in enumerate(zip(*parts))
        for p, question in enumerate(row)
    ]
    made = squad.make_windows(mixed, squad.SYNTHETIC_VOCABULARY, cache=False, max_length=LENGTH)
    assert made.lengths.min() < 32 and made.lengths.max() > 64 and (np.diff(made.lengths) < 0).any()
    return made


def both(build, **options):
    """Models with the same large weights, for any length and for one length."""
    tf.keras.utils.set_random_seed(2)
    free, fixed = (build(length=length, **SIZES, **options) for length in (None, LENGTH))
    free.set_weights([4 * w if w.ndim == 2 else w for w in free.get_weights()])
    fixed.set_weights(free.get_weights())
    return free, fixed


@pytest.fixture(scope="module")
def answering():
    return both(fl.models.bert.question_answering)


@pytest.fixture
def lengths_computed(monkeypatch):
    """The lengths of the windows that are laid out for a model."""
    seen, columns = [], Windows.columns

    def recorded(self, windows=None, length=None):
        found = columns(self, windows, length)
        seen.extend([found["input_ids"].shape[1]] * len(found["y"]))
        return found

    monkeypatch.setattr(Windows, "columns", recorded)
    return seen


def test_answers_are_those_with_padding_and_in_the_same_order(answering, windows, lengths_computed):
    used = np.arange(LENGTH) < windows.lengths[:, None, None].repeat(2, 1)
    found, expected = (spans.logits(model, windows, batch_size=6) for model in answering)
    assert np.ptp(expected[used]) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for [one], [other] in zip(
        spans.answers(windows, found), spans.answers(windows, expected), strict=True
    ):
        assert one[:3] == other[:3] and one.window == other.window
        assert (one.score, one.probability) == pytest.approx(
            (other.score, other.probability), abs=1e-5
        )
    cut, whole = lengths_computed[: -windows.num_windows], lengths_computed[-windows.num_windows :]
    assert whole == [LENGTH] * windows.num_windows
    assert set(cut) == {32, 64, LENGTH} and sum(cut) < 0.8 * sum(whole)


def test_scores_and_losses_are_those_with_padding(answering, windows):
    found, expected = (
        fl.question_answering.Evaluator(windows, batch_size=8)(model) for model in answering
    )
    assert found == pytest.approx(expected, abs=1e-5) and expected["loss"] > 0.1


def test_the_same_draws_are_answered_the_same(answering, windows):
    settings = dict(num_correct=5, max_draws=60, batch_size=8)
    found, expected = (efficacy.measure(model, windows, **settings) for model in answering)
    assert found == expected


def test_explanations_are_those_with_padding(answering, lengths_computed):
    arguments = (
        "Who sold the map?",
        "Anna sold the map in Oslo in 1801. Boris found the ring in Lima in 1901.",
        squad.SYNTHETIC_VOCABULARY,
    )
    found, expected = (
        explanation.explain_answer(model, *arguments, num_samples=60, max_length=LENGTH)
        for model in answering
    )
    assert (
        found.label == expected.label and lengths_computed.count(LENGTH) == 2 + 61
    )  # the whole text and the comparison; all
    assert [word[:3] for word in found.words] == [word[:3] for word in expected.words]
    np.testing.assert_allclose(
        [word.weight for word in found.words], [word.weight for word in expected.words], atol=1e-5
    )

    models = both(lambda **options: fl.models.bert.classification(3, **options))
    found, expected = (
        explanation.explain_class(
            model, arguments[1], arguments[2], num_samples=60, max_length=LENGTH, batch_size=8
        )
        for model in models
    )
    assert found.label == expected.label and found.probability == pytest.approx(
        expected.probability, abs=1e-5
    )
    np.testing.assert_allclose(
        [word.weight for word in found.words], [word.weight for word in expected.words], atol=1e-5
    )


def inputs_of(length=None):
    return {
        name: tf.keras.Input([length], dtype="int32", name=name)
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }


def mean_of_all(ids):
    """Every logit has the mean of all tokens in it, padding too."""
    x = tf.cast(ids, tf.float32)
    return tf.stack([x + tf.reduce_mean(x, axis=1, keepdims=True)] * 2, axis=1)


def not_lowered(ids):
    """A logit depends on its token only, but padding counts in a softmax over positions."""
    return tf.stack([tf.cast(ids, tf.float32)] * 2, axis=1)


@pytest.mark.parametrize("logits", [mean_of_all, not_lowered])
def test_models_for_which_padding_counts_get_it(windows, logits, lengths_computed):
    inputs = inputs_of()
    model = tf.keras.Model(inputs, tf.keras.layers.Lambda(logits)(inputs["input_ids"]))
    found = spans.logits(model, windows, batch_size=8)
    assert lengths_computed.count(LENGTH) == windows.num_windows + 1
    columns = windows.columns()
    del columns["y"]
    np.testing.assert_array_equal(found, model(columns).numpy())


def test_one_batch_is_computed_at_once(answering, windows, lengths_computed):
    part = windows.select([1, 5])
    assert (
        spans.logits(answering[0], part).shape == (2, 2, LENGTH)
        and lengths_computed == [LENGTH] * 2
    )


def test_weights_that_change_are_used(answering, windows):
    free, _ = answering
    before, kernel = spans.logits(free, windows, batch_size=6), free.get_layer("head").kernel
    kernel.assign(-kernel)
    after = spans.logits(free, windows, batch_size=6)
    kernel.assign(-kernel)
    used = np.arange(LENGTH) < windows.lengths[:, None, None].repeat(2, 1)
    np.testing.assert_allclose(after[used], -before[used], rtol=1e-5, atol=1e-5)


def test_a_model_is_not_kept(windows):
    model, _ = both(fl.models.bert.question_answering)
    spans.logits(model, windows, batch_size=6)
    gone = weakref.ref(model)
    del model, _
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("length", [None, 64])
def test_several_outputs_are_refused(length):
    inputs = inputs_of(length)
    x = tf.keras.layers.Rescaling(1.0)(inputs["input_ids"])
    model = tf.keras.Model(inputs, [x, x + 1], name="twins")
    with pytest.raises(ValueError, match="model 'twins': expected one output, got 2"):
        outputs(
            model,
            lambda rows, length: {name: np.ones([len(rows), length], np.int32) for name in inputs},
            [4, 5],
            64,
            1,
        )
