"""Models that compute in bfloat16 and keep float32 weights."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import clone, in_precision

keras = tf.keras
layers = keras.layers


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def deep():
    """Layers in layers and a model in a model; both outputs of the whole are known by name."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [
            keras.Input([6, 4]),
            layers.Dense(4, name="in_inner"),
            layers.LayerNormalization(name="end_of_inner"),
        ]
    )
    last = keras.Sequential(
        [keras.Input([3]), layers.Dense(5, name="in_last"), layers.Dense(3, name="end_of_last")],
        name="last",
    )
    ids = keras.Input([6], dtype="int32", name="ids")
    x = inner(layers.Embedding(9, 4, name="embedding")(ids))
    x = x + layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True, name="gru"), name="both")(x)
    x = layers.TimeDistributed(layers.Dense(3, name="inside"), name="distributed")(x)
    x = layers.Dropout(0.1, name="dropout")(layers.GlobalAveragePooling1D(name="pooled")(x))
    return compiled(keras.Model(ids, [layers.Dense(3, name="other")(x), last(x)]))


def test_layers_compute_in_bfloat16_and_outputs_in_float32():
    model = deep()
    mixed = in_precision(lambda: clone(model), "bfloat16")()
    computes = {
        layer.name: layer.compute_dtype for layer in mixed._flatten_layers(include_self=False)
    }
    named = [
        "in_inner",
        "end_of_inner",
        "embedding",
        "attention",
        "both",
        "inside",
        "distributed",
        "dropout",
        "pooled",
        "in_last",
    ]
    assert {name: computes[name] for name in named} == {name: "bfloat16" for name in named}
    assert [dtype for name, dtype in computes.items() if name.endswith("_gru")] == ["bfloat16"] * 2
    assert computes["other"] == computes["end_of_last"] == "float32"
    assert all(w.dtype == tf.float32 for w in mixed.weights)
    for ours, theirs in zip(mixed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ids = np.random.default_rng(0).integers(9, size=[3, 6])
    for rounded, exact in zip(mixed(ids), model(ids)):
        assert rounded.dtype == tf.float32
        assert 1e-5 < np.abs(rounded - exact).max() < 0.05
    assert keras.mixed_precision.global_policy().name == "float32"


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(4), layers.Dense(3)

    def call(self, x):
        return self.out(self.hidden(x))


def subclassed():
    model = Subclassed()
    model(tf.zeros([1, 4]))
    return compiled(model)


def test_a_transformer_whose_layers_hold_lists():
    model = fl.models.bert.question_answering(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_layers=1
    )
    mixed = in_precision(lambda: clone(model), "bfloat16")()
    computes = {layer.name: layer.compute_dtype for layer in mixed.layers}
    assert (
        computes["layer_0_query"] == computes["embeddings_norm"] == "bfloat16"
        and computes["logits"] == "float32"
    )


def test_model_made_by_a_function_follows_keras_policy():
    original = subclassed()
    mixed = in_precision(lambda: clone(original, subclassed), "bfloat16")()
    assert mixed.hidden.compute_dtype == "bfloat16" and mixed.hidden.kernel.dtype == tf.float32
    assert original.hidden.compute_dtype == subclassed().hidden.compute_dtype == "float32"


def test_float32_is_the_function_itself():
    assert in_precision(deep, "float32") is deep


def test_mistakes():
    with pytest.raises(ValueError, match="precision='float16': expected 'float32' or 'bfloat16'"):
        in_precision(deep, "float16")
    linear = compiled(keras.Sequential([keras.Input([4]), layers.Dense(3, name="only")]))
    with pytest.raises(ValueError, match="no layer that would compute in bfloat16"):
        in_precision(lambda: clone(linear), "bfloat16")()


def test_a_step_worked_out_by_hand():
    """Inputs and weights are rounded only where they are multiplied: 1.003 is 1 in bfloat16.

    w1 = 1.003, w2 = 2, x = 1.003, y = 0:  h = 1, p = 2. The gradient of p^2 is
    2 p h = 4 for w2 and 2 p w2 x = 8 for w1.
    """
    constant = lambda value: keras.initializers.Constant(value)  # noqa: E731
    hidden = layers.Dense(1, use_bias=False, kernel_initializer=constant(1.003))
    model = keras.Sequential(
        [
            keras.Input([1]),
            hidden,
            layers.Dense(1, use_bias=False, kernel_initializer=constant(2.0)),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    clients = fl.ClientData.from_dict(
        {"k": {"x": np.array([[1.003]], np.float32), "y": np.zeros([1, 1], np.float32)}}
    )
    options = dict(rounds=1, cohort=["k"], progress=False)
    run = fl.simulate(model, clients, precision="bfloat16", **options)
    np.testing.assert_allclose(
        np.ravel(run.model.get_weights()), [1.003 - 0.8, 2 - 0.4], rtol=0, atol=1e-6
    )
    assert run.history[-1]["train_loss"] == 4.0
    exact = np.ravel(fl.simulate(model, clients, **options).model.get_weights())
    p = 2 * 1.003**2
    np.testing.assert_allclose(
        exact, [1.003 - 0.1 * 2 * p * 2 * 1.003, 2 - 0.1 * 2 * p * 1.003**2], rtol=1e-6
    )


@pytest.mark.slow
def test_simulation_evaluates_and_ends_in_float32():
    train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
    keras.utils.set_random_seed(0)
    model = fl.models.char_rnn(units=16, embedding_dim=8)
    options = dict(
        rounds=2, cohort=list(train.client_ids), max_batches=3, evaluate_on=test, progress=False
    )
    exact = fl.simulate(model, train, **options)
    rounded = fl.simulate(model, train, precision="bfloat16", **options)
    assert all(layer.compute_dtype == "float32" for layer in rounded.model.layers)
    assert rounded.history[0] == exact.history[0]
    for name in ("train_loss", "test_loss"):
        assert rounded.history[-1][name] == pytest.approx(exact.history[-1][name], rel=0.01)
    assert [row["train_loss"] for row in rounded.history[1:]] != [
        row["train_loss"] for row in exact.history[1:]
    ]
    evaluated = rounded.model.evaluate(test.to_dataset(batch_size=64), verbose=0, return_dict=True)
    assert rounded.history[-1]["test_loss"] == pytest.approx(evaluated["loss"], rel=1e-5)
