"""Text generation: equal to reading the whole text again for each character."""

import collections

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import reset_states
from fedlab.tasks.generation.text import CHAR_VOCABULARY, decode, encode
from tests import quick
from tests.stacks import IS_KERAS_3

layers = tf.keras.layers


def sequential(recurrent, **kwargs):
    inputs = layers.Input([None], dtype="int32", **kwargs)
    return tf.keras.Sequential([inputs, layers.Embedding(86, 6), recurrent, layers.Dense(86)])


def functional(recurrent, **kwargs):
    ids = layers.Input([None], dtype="int32", **kwargs)
    embedded = layers.Embedding(86, 6)(ids)
    return tf.keras.Model(
        ids, layers.Dense(86)(layers.concatenate([recurrent(embedded), embedded]))
    )


def nested(recurrent, **kwargs):
    body = tf.keras.Sequential([layers.Input([None, 6], **kwargs), recurrent])
    return sequential(body, **kwargs)


def probabilities(recurrent, **kwargs):
    ids = layers.Input([None], dtype="int32", **kwargs)
    output = layers.Dense(86, activation="softmax")
    return tf.keras.Sequential([ids, layers.Embedding(86, 6), recurrent, output])


def without_input_layer(recurrent, **kwargs):
    shape = [kwargs.get("batch_size"), 9]
    if not IS_KERAS_3:
        embedding = layers.Embedding(86, 6, batch_input_shape=shape)
        return tf.keras.Sequential([embedding, recurrent, layers.Dense(86)])
    model = tf.keras.Sequential([layers.Embedding(86, 6), recurrent, layers.Dense(86)])
    model.build(shape)
    return model


FORMS = {
    "gru": lambda: sequential(layers.GRU(5, return_sequences=True)),
    "lstm": lambda: functional(layers.LSTM(5, return_sequences=True)),
    "stateful, batches of 3": lambda: functional(
        layers.GRU(5, return_sequences=True, stateful=True), batch_size=3
    ),
    "published form": lambda: without_input_layer(
        layers.GRU(5, return_sequences=True, stateful=True, reset_after=False), batch_size=8
    ),
    "nested": lambda: nested(layers.LSTM(5, return_sequences=True, stateful=True), batch_size=2),
    "last step only": lambda: sequential(layers.GRU(5)),
    "probabilities": lambda: probabilities(layers.GRU(5, return_sequences=True)),
    "not recurrent in one branch, uncompiled cell": lambda: functional(
        layers.RNN(layers.GRUCell(5), return_sequences=True)
    ),
}


def randomized(model):
    """Weights large enough that what was read before changes what comes next."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def greedy_by_reading_again(model, prompt, num_chars):
    size = model.input_shape[0] or 1
    fixed_length = model.input_shape[1]
    ids = list(encode(prompt))
    for _ in range(num_chars):
        reset_states(model)
        padded = ids + [0] * ((fixed_length or len(ids)) - len(ids))
        outputs = np.asarray(model(np.tile(np.array(padded, np.int32), [size, 1])))[0]
        ids.append(int(np.argmax(outputs[len(ids) - 1] if outputs.ndim == 2 else outputs)))
    return decode(ids)


SLOW = ("nested", "probabilities", "not recurrent in one branch, uncompiled cell")


@pytest.mark.parametrize("form", quick.all_but(SLOW, FORMS))
def test_equals_reading_the_text_again(form):
    model = randomized(FORMS[form]())
    weights = model.get_weights()
    assert fl.generate(model, "Toe", 6, temperature=0) == greedy_by_reading_again(model, "Toe", 6)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_models_recurrent_state_stays():
    model = randomized(FORMS["stateful, batches of 3"]())
    model(np.ones([3, 4], np.int32))
    state = next(layer for layer in model.layers if isinstance(layer, layers.GRU)).states[0]
    before = state.numpy()
    fl.generate(model, "abc", 3)
    assert before.any()
    np.testing.assert_array_equal(before, state.numpy())


def test_a_pure_function_of_its_arguments():
    model = randomized(fl.models.char_rnn(units=4, embedding_dim=3))
    first = fl.generate(model, "Ay", 30, temperature=2.0, seed=3)
    np.random.seed(0)
    tf.random.set_seed(0)
    assert fl.generate(model, "Ay", 30, temperature=2.0, seed=3) == first
    assert fl.generate(model, "Ay", 30, temperature=2.0, seed=4) != first
    assert fl.generate(model, "Ay", 10, temperature=2.0, seed=3) == first[:12]
    assert fl.generate(model, "Ay", 0) == "Ay"


def two_letters(odds):
    """A model that writes "a" with the given odds against "b", and nothing else."""
    model = fl.models.char_rnn(units=1, embedding_dim=1)
    bias = np.full(86, -100.0)
    bias[CHAR_VOCABULARY.index("a")], bias[CHAR_VOCABULARY.index("b")] = np.log(odds), 0.0
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()[:-1]] + [bias])
    return model


@pytest.mark.parametrize(
    "temperature, share",
    [(1.0, 3 / 4), (0.5, 9 / 10), (2.0, 3**0.5 / (1 + 3**0.5)), (0.0, 1.0), (1e-300, 1.0)],
)
def test_frequencies(temperature, share):
    text = fl.generate(two_letters(3.0), "b", 600, temperature)[1:]
    counts = collections.Counter(text)
    assert set(counts) <= {"a", "b"}
    assert counts["a"] / 600 == pytest.approx(share, abs=0.06)


MISTAKES = [
    ({"prompt": ""}, "at least one character"),
    ({"prompt": None}, "at least one character"),
    ({"prompt": "caf\u00e9 {"}, r"'\{', '\u00e9'"),
    ({"num_chars": -1}, "num_chars=-1"),
    ({"num_chars": 1.5}, "num_chars=1.5"),
    ({"temperature": -0.1}, "temperature=-0.1"),
    ({"temperature": float("nan")}, "temperature=nan"),
    ({"temperature": float("inf")}, "temperature=inf"),
    ({"seed": -1}, "seed=-1"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES)
def test_mistakes(arguments, message):
    model = fl.models.char_rnn(units=1, embedding_dim=1)
    with pytest.raises(ValueError, match=message):
        fl.generate(model, **{"prompt": "a", **arguments})


def test_models_of_another_form():
    embedding = layers.Embedding(86, 2)
    dense = tf.keras.Sequential([layers.Input([None]), embedding, layers.Dense(86)])
    bidirectional = tf.keras.Sequential(
        [
            layers.Input([None]),
            embedding,
            layers.GRU(1, return_sequences=True),
            layers.Bidirectional(layers.GRU(1)),
            layers.Dense(86),
        ]
    )
    diverged = fl.models.char_rnn(units=1, embedding_dim=1)
    diverged.set_weights([np.full_like(weight, np.nan) for weight in diverged.get_weights()])
    for model, message in [
        ("dickens", "expected a Keras model, .*, got str"),
        (dense, "expected a recurrent layer"),
        (bidirectional, "bidirectional"),
        (
            fl.models.char_rnn(vocabulary_size=90, units=1, embedding_dim=1),
            r"expected outputs \[batch, time, 86\], .*90\]",
        ),
        (tf.keras.Sequential([layers.Dense(86)]), "expected a built"),
        (diverged, "nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            fl.generate(model, "a", 2)
