"""The fast recurrent form against Keras's own layers."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fedlab.engines import recurrent

keras = tf.keras


def values_and_gradients(model, x):
    """Outputs of two calls in a row (the second sees a stateful layer's state), and the gradients of a function of both."""
    model.reset_states()
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = tf.nest.flatten([model(x), model(x)])
        loss = tf.add_n([tf.reduce_sum(tf.sin(3 * output)) for output in outputs])
    return outputs + tape.gradient(loss, [x, *model.trainable_weights])


def compare(layer, expected_plain, x=None, mask=False):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(batch_shape=(3, 7, 5))
    hidden = keras.layers.Masking()(inputs) if mask else inputs
    model = keras.Model(inputs, layer(hidden))
    for weight in model.trainable_weights:
        weight.assign(0.5 * tf.random.normal(weight.shape))
    x = tf.random.normal([3, 7, 5])
    if mask:
        x = x * tf.constant([[1.0] * 7, [1, 1, 1, 0, 0, 0, 0], [0] * 7])[:, :, None]
    before = values_and_gradients(model, x)
    names = recurrent.accelerate(model)
    assert bool(names) == expected_plain
    after = values_and_gradients(model, x)
    in_graph = tf.function(lambda: values_and_gradients(model, x))()
    for first, second, third in zip(before, after, in_graph):
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(third, first, rtol=1e-5, atol=2e-6)
    recurrent.restore(model)
    for first, second in zip(before, values_and_gradients(model, x)):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("sequences, stateful, bias", itertools.product([True, False], repeat=3))
@pytest.mark.parametrize("kind", ["gru", "gru_reset_before", "lstm"])
def test_fast_form_equals_keras(kind, sequences, stateful, bias):
    options = dict(return_sequences=sequences, stateful=stateful, use_bias=bias)
    layer = {
        "gru": lambda: keras.layers.GRU(4, **options),
        "gru_reset_before": lambda: keras.layers.GRU(4, reset_after=False, **options),
        "lstm": lambda: keras.layers.LSTM(4, return_state=True, **options),
    }[kind]()
    compare(layer, expected_plain=True)


@pytest.mark.parametrize("kind", [keras.layers.GRU, keras.layers.LSTM])
@pytest.mark.parametrize(
    "options", [{"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}, {"go_backwards": True}, {"unroll": True}], ids=str
)
def test_other_options_run_keras_own_layer(kind, options):
    compare(kind(4, return_sequences=True, **options), expected_plain=False)


@pytest.mark.parametrize("kind", [keras.layers.GRU, keras.layers.LSTM])
def test_dropout_is_not_plain(kind):
    assert not recurrent.is_plain(kind(4, dropout=0.1))
    assert not recurrent.is_plain(kind(4, recurrent_dropout=0.1))


@pytest.mark.parametrize("kind", [keras.layers.GRU, keras.layers.LSTM])
def test_masked_call_runs_keras_own_code(kind):
    compare(kind(4, return_sequences=True), expected_plain=True, mask=True)


def test_initial_state_runs_keras_own_code():
    x, h = keras.Input([7, 5]), keras.Input([4])
    model = keras.Model([x, h], keras.layers.GRU(4)(x, initial_state=h))
    inputs = [tf.random.normal([3, 7, 5]), tf.random.normal([3, 4])]
    before = model(inputs)
    assert recurrent.accelerate(model)
    np.testing.assert_array_equal(model(inputs), before)


def test_nested_and_bidirectional_layers():
    inner = keras.Sequential([keras.Input([None, 5]), keras.layers.GRU(4, return_sequences=True)])
    model = keras.Sequential([keras.Input([None, 5]), inner, keras.layers.Bidirectional(keras.layers.LSTM(3))])
    x = tf.random.normal([2, 6, 5])
    before = values_and_gradients(model, x)
    assert recurrent.accelerate(model)
    for first, second in zip(before, values_and_gradients(model, x)):
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=2e-6)
