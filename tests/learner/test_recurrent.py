"""Fast recurrent layers against Keras's, with every option: outputs, states and gradients."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from tests.stacks import IS_KERAS_3, KERAS, keras_2, keras_3

recurrent = importlib.import_module(f"{KERAS}.recurrent")
keras = tf.keras
layers = keras.layers
KINDS = {"gru": layers.GRU, "lstm": layers.LSTM}
BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 3

# A whole row, padding at the end, at the front, a gap, and nothing but padding.
MASK = np.array(
    [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool
)


@pytest.fixture(autouse=True)
def keras_calls(monkeypatch):
    """A list that grows by one at each call of Keras's own recurrent code."""
    calls = []

    def counting(call):
        def counted(self, *args, **kwargs):
            calls.append(self.name)
            return call(self, *args, **kwargs)

        return counted

    # On Keras 3, the fast form replaces the loop, and Keras does what comes before and after.
    if IS_KERAS_3:
        method, kinds = "inner_loop", (layers.GRU, layers.LSTM, layers.RNN)
    else:
        method = "call"
        kinds = (layers.GRU, layers.LSTM, layers.SimpleRNN, layers.RNN, layers.ConvLSTM2D)
    for kind in kinds:
        monkeypatch.setattr(kind, method, counting(getattr(kind, method)))
    return calls


def set_generators(model):
    """Gives each layer's random draws a generator of its own; returns their state variables."""
    if IS_KERAS_3:
        return importlib.import_module(f"{KERAS}.seeds").generators(model)
    generators = []
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "_random_generator"):
            layer._random_generator = type(layer._random_generator)(seed=0, rng_type="stateful")
            layer._random_generator._maybe_init()
            generators.append(layer._random_generator._generator.state)
    return generators


def trainable_variables(model):
    return [w.value if IS_KERAS_3 else w for w in model.trainable_weights]


def values_and_gradients(model, inputs, generators):
    """Outputs of two calls in a row, the states, and the gradients of a function of both.

    The second call sees a stateful layer's state.
    """
    for generator in generators:
        generator.assign([0, 9] if IS_KERAS_3 else [0, 0, 9])
    states = recurrent.recurrent_states(model)
    for state in states:
        state.assign(tf.zeros_like(state))
    floats = [x for x in inputs if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        outputs = tf.nest.flatten([model(inputs, training=True), model(inputs, training=True)])
        # Every output counts with other numbers.
        loss = tf.add_n(
            [tf.reduce_sum(tf.sin((3 + i) * output)) for i, output in enumerate(outputs)]
            + model.losses
        )
    gradients = tape.gradient(loss, [*floats, *trainable_variables(model)])
    states = [tf.identity(s) for s in (*states, *generators)]
    return outputs + states + [tf.convert_to_tensor(g) for g in gradients]


def compare(calls, model, inputs, fast, graph=False):
    """Asserts that `accelerate` changes no value of `model`.

    Keras's own code runs afterwards only if not `fast`.
    """
    for weight in model.trainable_weights:
        weight.assign(0.6 * tf.random.normal(weight.shape))
    inputs = [tf.constant(x) for x in inputs]
    generators = set_generators(model)
    before = values_and_gradients(model, inputs, generators)
    assert any(np.any(np.asarray(g)) for g in before[-len(model.trainable_weights) :])
    recurrent.accelerate(model)
    calls.clear()
    run = tf.function(values_and_gradients) if graph else values_and_gradients
    after = run(model, inputs, generators)
    assert bool(calls) == (not fast)
    assert len(before) == len(after)
    for value, expected in zip(after, before):
        np.testing.assert_allclose(
            value, expected, rtol=1e-5, atol=3e-6 * max(1, np.max(np.abs(expected)))
        )


def sequences(batch=BATCH):
    return np.random.default_rng(1).normal(size=[batch, STEPS, FEATURES]).astype(np.float32)


def on_sequences(layer, batch=BATCH):
    keras.utils.set_random_seed(1)
    x = keras.Input(batch_shape=(batch, STEPS, FEATURES))
    return keras.Model([x], layer(x))


def own(kind, **options):
    return KINDS[kind](UNITS, **options)


both = pytest.mark.parametrize("kind", KINDS)


def slow(**options):
    """Options that the default cases cover in combination with others."""
    return pytest.param(options, marks=pytest.mark.slow)


PLAIN = [
    dict(),
    slow(return_sequences=True),
    slow(return_state=True),
    dict(return_sequences=True, return_state=True, stateful=True),
    slow(stateful=True, use_bias=False),
    dict(use_bias=False, return_sequences=True, return_state=True),
    dict(activation=tf.tanh, recurrent_activation=tf.sigmoid),
    slow(implementation=1),
    slow(go_backwards=True),
    dict(go_backwards=True, return_sequences=True, return_state=True, stateful=True),
    dict(dropout=0.4, return_sequences=True),
    slow(dropout=0.4, go_backwards=True),
    dict(
        kernel_regularizer="l2",
        recurrent_regularizer="l1",
        bias_regularizer="l2",
        activity_regularizer="l2",
    ),
]
GRU_PLAIN = [
    slow(reset_after=False),
    dict(reset_after=False, return_sequences=True, return_state=True, stateful=True),
    dict(reset_after=False, use_bias=False, return_sequences=True, go_backwards=True),
]
OTHER = [
    dict(activation="relu"),
    slow(activation="linear", return_sequences=True),
    slow(recurrent_activation="hard_sigmoid"),
    dict(recurrent_activation="tanh", stateful=True),
    slow(recurrent_dropout=0.4, return_sequences=True),
    dict(recurrent_dropout=0.4, dropout=0.4, implementation=1),
    slow(unroll=True, return_sequences=True),
    dict(unroll=True, stateful=True, return_state=True),
]


def named(options):
    """A case's name, with functions by name: xdist needs the same names in each process."""
    return ", ".join(
        f"{name}={getattr(value, '__name__', value)}" for name, value in options.items()
    )


@pytest.mark.parametrize("options", PLAIN, ids=named)
@both
def test_fast_form_equals_keras(keras_calls, kind, options):
    compare(keras_calls, on_sequences(own(kind, **options)), [sequences()], fast=True)


@both
def test_fast_form_in_a_graph(keras_calls, kind):
    """As the engine runs it; the tests that do not say `graph` run eagerly, which is quicker."""
    options = dict(return_sequences=True, stateful=True, dropout=0.4)
    compare(keras_calls, on_sequences(own(kind, **options)), [sequences()], fast=True, graph=True)


@pytest.mark.parametrize("options", GRU_PLAIN, ids=named)
def test_fast_form_of_reset_before(keras_calls, options):
    compare(keras_calls, on_sequences(own("gru", **options)), [sequences()], fast=True)


@pytest.mark.parametrize("options", OTHER, ids=named)
@both
def test_other_options_run_keras_own_code(keras_calls, kind, options):
    compare(keras_calls, on_sequences(own(kind, **options)), [sequences()], fast=False)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("gru", dict(reset_after=False)),
        ("gru", dict(use_bias=False)),
        ("lstm", dict(use_bias=False)),
    ],
)
def test_dropout_of_layers_that_cudnn_cannot_run(keras_calls, kind, options):
    """In such layers Keras 2, unlike Keras 3, draws inside the cell."""
    model = on_sequences(own(kind, dropout=0.4, **options))
    compare(keras_calls, model, [sequences()], fast=IS_KERAS_3)


# Keras 3 has no such option.
@keras_2
@both
def test_time_major_runs_keras_own_code(keras_calls, kind):
    model = on_sequences(own(kind, time_major=True, return_sequences=True))
    compare(keras_calls, model, [sequences()], fast=False)


@keras_3
@both
def test_dropout_of_everything_is_none(keras_calls, kind):
    """So Keras 3 treats a rate of 1."""
    compare(keras_calls, on_sequences(own(kind, dropout=1.0)), [sequences()], fast=True)


@keras_3
@both
def test_explicit_use_of_cudnn_is_refused_by_keras(kind):
    model = on_sequences(own(kind))
    model.layers[-1].use_cudnn = True
    assert recurrent.accelerate(model) == []
    with pytest.raises(ValueError, match="cuDNN is not supported"):
        model(sequences())


# Masks.

MASKED = [
    slow(),
    slow(return_sequences=True),
    dict(return_sequences=True, return_state=True, stateful=True),
    dict(return_state=True, stateful=True, go_backwards=True),
    slow(return_sequences=True, go_backwards=True),
    dict(return_sequences=True, dropout=0.4),
    dict(return_sequences=True, return_state=True, zero_output_for_mask=True),
    slow(zero_output_for_mask=True),
]


@pytest.mark.parametrize("options", MASKED, ids=named)
@both
def test_masked_steps(keras_calls, kind, options):
    keras.utils.set_random_seed(1)
    x, mask = (
        keras.Input(batch_shape=(5, STEPS, FEATURES)),
        keras.Input(batch_shape=(5, STEPS), dtype="bool"),
    )
    compare(
        keras_calls,
        keras.Model([x, mask], own(kind, **options)(x, mask=mask)),
        [sequences(5), MASK],
        fast=True,
    )


def test_masked_reset_before(keras_calls):
    x, mask = keras.Input([STEPS, FEATURES]), keras.Input([STEPS], dtype="bool")
    layer = own("gru", reset_after=False, return_sequences=True, return_state=True)
    compare(
        keras_calls,
        keras.Model([x, mask], layer(x, mask=mask)),
        [sequences(5), MASK],
        fast=True,
        graph=True,
    )


@both
def test_mask_of_an_embedding(keras_calls, kind):
    ids = keras.Input([None], dtype="int32")
    hidden = layers.Embedding(7, FEATURES, mask_zero=True)(ids)
    hidden = own(kind, return_sequences=True)(hidden)
    model = keras.Model([ids], own(kind, return_sequences=True)(hidden))
    x = np.random.default_rng(0).integers(1, 7, size=MASK.shape).astype(np.int32) * MASK
    compare(keras_calls, model, [x], fast=True, graph=True)


@both
def test_mask_of_a_masking_layer(keras_calls, kind):
    x = keras.Input([None, FEATURES])
    model = keras.Model([x], own(kind, return_sequences=True)(layers.Masking(0.0)(x)))
    compare(keras_calls, model, [sequences(5) * MASK[..., None].astype(np.float32)], fast=True)


@both
def test_stateful_layer_given_nothing_but_padding(keras_calls, kind):
    """Keras's output is then zero while the state, which is not, goes on."""
    keras.utils.set_random_seed(1)
    x, mask = (
        keras.Input(batch_shape=(2, 4, FEATURES)),
        keras.Input(batch_shape=(2, 4), dtype="bool"),
    )
    layer = own(kind, stateful=True, return_sequences=True)
    model = keras.Model([x, mask], layer(x, mask=mask))
    recurrent.accelerate(model)
    values = tf.random.normal([2, 4, FEATURES])
    model([values, tf.ones([2, 4], tf.bool)])
    states = [s.numpy() for s in layer.states]
    assert all(np.all(s != 0) for s in states)
    np.testing.assert_array_equal(
        model([values, tf.zeros([2, 4], tf.bool)]), np.zeros([2, 4, UNITS])
    )
    for state, before in zip(layer.states, states):
        np.testing.assert_array_equal(state, before)


def test_padding_is_neither_read_nor_trained():
    """The value and the gradient of a masked step's input are nothing to the rest, bit for bit."""
    x, mask = keras.Input([STEPS, FEATURES]), keras.Input([STEPS], dtype="bool")
    model = keras.Model([x, mask], own("lstm", return_sequences=True)(x, mask=mask))
    recurrent.accelerate(model)
    values, mask = tf.constant(sequences(5)), tf.constant(MASK)
    with tf.GradientTape() as tape:
        tape.watch(values)
        output = model([values, mask])
    np.testing.assert_array_equal(tape.gradient(output, values)[~MASK], 0)
    np.testing.assert_array_equal(model([tf.where(MASK[..., None], values, 1e3), mask]), output)


# Initial states.


def states_of(kind, batch=BATCH):
    rng = np.random.default_rng(2)
    return [
        rng.normal(size=[batch, UNITS]).astype(np.float32)
        for _ in range(2 if kind == "lstm" else 1)
    ]


@pytest.mark.parametrize(
    "options", [dict(return_sequences=True, return_state=True), dict(go_backwards=True)], ids=named
)
@both
def test_given_initial_states(keras_calls, kind, options):
    x, *states = keras.Input([STEPS, FEATURES]), *[keras.Input([UNITS]) for _ in states_of(kind)]
    model = keras.Model([x, *states], own(kind, **options)(x, initial_state=states))
    compare(keras_calls, model, [sequences(), *states_of(kind)], fast=True)


@both
def test_given_initial_states_and_a_mask(keras_calls, kind):
    x, mask, *states = (
        keras.Input([STEPS, FEATURES]),
        keras.Input([STEPS], dtype="bool"),
        *[keras.Input([UNITS]) for _ in states_of(kind)],
    )
    layer = own(kind, return_sequences=True, return_state=True)
    model = keras.Model([x, mask, *states], layer(x, mask=mask, initial_state=states))
    compare(keras_calls, model, [sequences(5), MASK, *states_of(kind, 5)], fast=True)


@both
def test_encoder_and_decoder(keras_calls, kind):
    x, y = keras.Input([STEPS, FEATURES]), keras.Input([STEPS, FEATURES])
    _, *states = own(kind, return_state=True)(x)
    model = keras.Model([x, y], own(kind, return_sequences=True)(y, initial_state=states))
    compare(keras_calls, model, [sequences(), sequences()[:, ::-1]], fast=True)


# Wrappers, and layers that are not plain.


@pytest.mark.parametrize(
    "options", [dict(merge_mode="concat"), slow(merge_mode=None), slow(merge_mode="sum")], ids=named
)
@both
def test_bidirectional(keras_calls, kind, options):
    layer = layers.Bidirectional(
        own(kind, return_sequences=True, return_state=options["merge_mode"] == "concat"), **options
    )
    compare(keras_calls, on_sequences(layer), [sequences()], fast=True)


@pytest.mark.parametrize("sequences_out", [True, False])
@both
def test_masked_bidirectional(keras_calls, kind, sequences_out):
    x, mask = keras.Input([STEPS, FEATURES]), keras.Input([STEPS], dtype="bool")
    layer = layers.Bidirectional(own(kind, return_sequences=sequences_out))
    compare(
        keras_calls, keras.Model([x, mask], layer(x, mask=mask)), [sequences(5), MASK], fast=True
    )


@both
def test_nested_and_time_distributed(keras_calls, kind):
    inner = keras.Sequential([keras.Input([None, FEATURES]), own(kind, return_sequences=True)])
    outer = keras.Input([2, STEPS, FEATURES])
    hidden = layers.TimeDistributed(own(kind))(outer)
    model = keras.Model([outer], [inner(hidden @ tf.ones([UNITS, FEATURES])), hidden])
    compare(keras_calls, model, [np.stack([sequences(), sequences()[::-1]], axis=1)], fast=True)


class Doubling(layers.LSTM):
    def call(self, sequences, initial_state=None, **kwargs):
        return 2 * super().call(sequences, initial_state=initial_state, **kwargs)


OWN_CODE = {
    "subclass": lambda: Doubling(UNITS),
    "SimpleRNN": lambda: layers.SimpleRNN(UNITS, return_sequences=True),
    "RNN of a cell": lambda: layers.RNN(layers.GRUCell(UNITS), return_sequences=True),
    "RNN of cells": lambda: layers.RNN(
        [layers.LSTMCell(UNITS), layers.GRUCell(2)], return_state=True
    ),
}
if not IS_KERAS_3:
    OWN_CODE["compat GRU"] = lambda: tf.compat.v1.keras.layers.GRU(UNITS)


@pytest.mark.parametrize("name", OWN_CODE)
def test_other_layers_stay_keras_own(keras_calls, name):
    model = on_sequences(OWN_CODE[name]())
    assert recurrent.accelerate(model) == []
    compare(keras_calls, model, [sequences()], fast=False)


def test_convolutional_lstm_stays_keras_own(keras_calls):
    x = keras.Input([STEPS, 4, 4, 2])
    model = keras.Model([x], layers.ConvLSTM2D(2, 3, return_sequences=True)(x))
    assert recurrent.accelerate(model) == []
    compare(
        keras_calls,
        model,
        [np.random.default_rng(0).normal(size=[2, STEPS, 4, 4, 2]).astype(np.float32)],
        fast=False,
    )


# Keras 3 equals Keras in every precision; see the test below for Keras 2.
@pytest.mark.parametrize("dtype", ["float64", *(["mixed_bfloat16"] if IS_KERAS_3 else [])])
@both
def test_other_precisions_stay_keras_own(keras_calls, kind, dtype):
    model = on_sequences(own(kind, dtype=dtype))
    assert recurrent.accelerate(model) == []
    keras_calls.clear()
    model(sequences())
    assert keras_calls


@keras_2
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.slow), True])
@both
def test_bfloat16_is_nearer_to_float32_than_keras_own(keras_calls, kind, masked):
    """Only inputs, weights and outputs are rounded to 8 bits; Keras rounds each step."""
    models, values = [], []
    x, mask = tf.constant(sequences(5)), tf.constant(MASK if masked else np.ones_like(MASK))
    for dtype, fast in (("float32", True), ("mixed_bfloat16", True), ("mixed_bfloat16", False)):
        keras.utils.set_random_seed(1)
        inputs, masks = keras.Input([STEPS, FEATURES]), keras.Input([STEPS], dtype="bool")
        layer = own(kind, return_sequences=True, return_state=True, dtype=dtype)
        models.append(keras.Model([inputs, masks], layer(inputs, mask=masks)))
        models[-1].set_weights(models[0].get_weights())
        assert bool(fast and recurrent.accelerate(models[-1])) == fast
        keras_calls.clear()
        with tf.GradientTape() as tape:
            outputs = models[-1]([x, mask])
            loss = tf.add_n([tf.reduce_sum(tf.cast(output, tf.float32) ** 2) for output in outputs])
        assert bool(keras_calls) != fast
        assert all(output.dtype == layer.compute_dtype for output in outputs)
        values.append(
            [
                tf.cast(v, tf.float32)
                for v in (*outputs, *tape.gradient(loss, models[-1].trainable_weights))
            ]
        )
    away = [
        [float(tf.norm(v - e) / tf.norm(e)) for v, e in zip(found, values[0])]
        for found in values[1:]
    ]
    assert 1e-4 < max(away[0]) < 0.01
    assert np.mean(away[0]) < np.mean(away[1])


@keras_2  # recurrent layers of Keras 3 take no ragged tensors
def test_ragged_sequences_run_keras_own_code(keras_calls):
    x = keras.Input([None, FEATURES], ragged=True)
    model = keras.Model(x, own("gru")(x))
    ragged = tf.RaggedTensor.from_row_lengths(tf.random.normal([7, FEATURES]), [3, 4])
    before = model(ragged)
    recurrent.accelerate(model)
    keras_calls.clear()
    np.testing.assert_array_equal(model(ragged), before)
    assert keras_calls


def test_restore_gives_back_keras_own_code(keras_calls):
    model = on_sequences(layers.Bidirectional(own("gru")))
    before = model(sequences())
    with recurrent.accelerated(model):
        keras_calls.clear()
        model(sequences())
        assert not keras_calls
    np.testing.assert_array_equal(model(sequences()), before)
    assert keras_calls


@both
def test_fit_in_the_fast_form(keras_calls, kind):
    """Also where Keras 3 would compile the step with XLA, which has no such operation."""
    fitted = []
    for fast in (False, True):
        keras.utils.set_random_seed(1)
        model = on_sequences(own(kind), batch=None)
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
        jit_compile = model.jit_compile
        keras_calls.clear()
        if fast:
            with recurrent.accelerated(model):
                model.fit(sequences(), states_of("gru")[0], epochs=3, verbose=0)
        else:
            model.fit(sequences(), states_of("gru")[0], epochs=3, verbose=0)
        assert bool(keras_calls) != fast
        assert model.jit_compile == jit_compile
        fitted.append(model.get_weights())
    for weight, expected in zip(*fitted):
        np.testing.assert_allclose(weight, expected, rtol=0, atol=1e-6)


@keras_3
def test_negative_ids_count_from_the_end(keras_calls):
    """As in Keras 3's Embedding."""
    ids = keras.Input([STEPS], dtype="int32")
    hidden = layers.Embedding(7, FEATURES)(ids)
    model = keras.Model([ids], own("gru", return_sequences=True)(hidden))
    x = np.random.default_rng(0).integers(-7, 7, size=[BATCH, STEPS]).astype(np.int32)
    compare(keras_calls, model, [x], fast=True, graph=True)
