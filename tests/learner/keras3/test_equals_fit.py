"""One client that trains for three steps ends with the weights of `fit` on the same batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import learner
from tests import quick
from tests.learner.keras3.fitting import (
    ROWS,
    assert_equals_fit,
    classes,
    compiled,
    dense,
    floats,
    functional,
    padded_ids,
    sequential,
)
from tests.stacks import keras_3

pytestmark = keras_3
layers = keras.layers


def images():
    return sequential(
        keras.Input([8, 8, 2]),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.SeparableConv2D(4, 3),
        layers.DepthwiseConv2D(2),
        layers.MaxPooling2D(),
        layers.Conv2DTranspose(3, 2, strides=2),
        layers.UpSampling2D(),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(3),
    )


def sequences():
    return sequential(
        keras.Input([8, 2]),
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2),
        layers.ZeroPadding1D(1),
        layers.DepthwiseConv1D(2),
        layers.SeparableConv1D(4, 2),
        layers.Cropping1D(1),
        layers.TimeDistributed(layers.Dense(4)),
        layers.Permute([2, 1]),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3),
    )


def volumes():
    return sequential(
        keras.Input([3, 4, 4, 2]),
        layers.ConvLSTM2D(2, 2, padding="same", return_sequences=True),
        layers.Conv3D(2, 2),
        layers.GlobalAveragePooling3D(),
        layers.Dense(3),
    )


def normalizations():
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(2, 3, size=[20, 4]))
    return sequential(
        keras.Input([4]),
        adapted,
        layers.Dense(6, use_bias=False),
        layers.BatchNormalization(momentum=0.8),
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.RMSNormalization(),
        layers.UnitNormalization(),
        layers.PReLU(),
        layers.Dense(3),
    )


def attention():
    keras.utils.set_random_seed(4)
    ids = keras.Input([None], dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(ids)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 3)(x, x))
    x = x + layers.GroupQueryAttention(2, 4, 2)(x, x, use_causal_mask=True)
    x = x + layers.AdditiveAttention()([x, x]) + layers.Attention(use_scale=True)([x, x])
    x = layers.EinsumDense("abc,cd->abd", [None, 4], bias_axes="d")(x)
    return functional(ids, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def recurrent():
    return sequential(
        keras.Input([None], dtype="int32"),
        layers.Embedding(9, 4, mask_zero=True),
        layers.LSTM(4, return_sequences=True),
        layers.Bidirectional(layers.GRU(3, return_sequences=True)),
        layers.SimpleRNN(4, return_sequences=True),
        layers.Dense(3),
    )


def cells():
    """Cells in a loop, and a decoder that starts from the states of an encoder."""
    keras.utils.set_random_seed(4)
    x = keras.Input([6, 4])
    encoded, *states = layers.LSTM(3, return_sequences=True, return_state=True)(x)
    decoded = layers.LSTM(3, return_sequences=True)(encoded, initial_state=states)
    stacked = layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(4)], go_backwards=True)
    return functional(x, layers.Dense(3)(stacked(decoded)))


def stateful():
    return sequential(
        keras.Input(batch_shape=[4, 6, 4]),
        layers.GRU(3, stateful=True, return_sequences=True),
        layers.LSTM(3, stateful=True),
        layers.Dense(3),
    )


def nested():
    """A model in a model in a model, one of them used twice."""
    keras.utils.set_random_seed(4)
    parts = keras.Input([4]), layers.Dense(4, activation="tanh"), layers.LayerNormalization()
    inner = keras.Sequential(parts)
    x = keras.Input([4])
    middle = keras.Model(x, inner(inner(x)) + x)
    return compiled(keras.Sequential([keras.Input([4]), middle, layers.Dense(3)]))


def graph_of_ops():
    """Operations of keras.ops between layers, on tensors and constants."""
    ops = keras.ops
    keras.utils.set_random_seed(4)
    x = keras.Input([4])
    hidden = layers.Dense(4)(x)
    pairs = ops.einsum("bi,bj->bij", hidden, ops.tanh(x))
    weights = ops.softmax(ops.where(pairs > 0, pairs, 0.1 * pairs), axis=-1)
    mixed = ops.squeeze(ops.matmul(weights, hidden[:, :, None]), axis=-1)
    joined = ops.concatenate([mixed, -hidden, x @ np.eye(4, 2, dtype="float32")], axis=1)
    scale = ops.sqrt(1 + ops.mean(joined**2, axis=1, keepdims=True))
    return functional(x, layers.Dense(3)(joined / scale + ops.logsumexp(x)))


def regularized():
    return sequential(
        keras.Input([4]),
        layers.Dense(5, kernel_regularizer="l1", bias_regularizer="l2", activity_regularizer="l2"),
        layers.ActivityRegularization(l2=0.1),
        layers.Dense(
            3,
            kernel_constraint=keras.constraints.MaxNorm(0.3),
            bias_constraint=keras.constraints.NonNeg(),
        ),
    )


def noisy():
    return sequential(
        keras.Input([6, 4]),
        layers.SpatialDropout1D(0.3),
        layers.GaussianNoise(0.1),
        layers.LSTM(4, dropout=0.3, recurrent_dropout=0.2, return_sequences=True),
        layers.GaussianDropout(0.2),
        layers.AlphaDropout(0.2),
        layers.Flatten(),
        layers.Dropout(0.3, seed=5),
        layers.Dense(3),
    )


def augmented():
    return sequential(
        keras.Input([8, 8, 2]),
        layers.RandomFlip(),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomRotation(0.1),
        layers.RandomContrast(0.2),
        layers.Flatten(),
        layers.Dense(3),
    )


def frozen_inside():
    """A frozen layer in a layer, and a single frozen weight."""
    keras.utils.set_random_seed(4)
    body = keras.Sequential(
        [keras.Input([4]), layers.Dense(5), layers.BatchNormalization(), layers.Dense(4)]
    )
    body.layers[0].trainable = False
    model = keras.Sequential([keras.Input([4]), body, layers.Dense(3)])
    model.layers[1].bias.trainable = False
    return compiled(model, keras.optimizers.Adam(0.01))


def low_rank():
    """LoRA, with a scale other than the default."""
    keras.utils.set_random_seed(4)
    ids, numbers = keras.Input([6], dtype="int32", name="ids"), keras.Input([6, 4], name="numbers")
    embedding, dense, convolution = layers.Embedding(9, 4), layers.Dense(4), layers.Conv1D(4, 2)
    einsum, plain = layers.EinsumDense("abc,cd->abd", [None, 4]), layers.Dense(4)
    hidden = plain(einsum(embedding(ids)) + dense(numbers))
    pooled = layers.GlobalAveragePooling1D()(convolution(hidden))
    model = keras.Model({"ids": ids, "numbers": numbers}, layers.Dense(3)(pooled))
    for alpha, layer in enumerate([embedding, dense, convolution, einsum], 3):
        layer.enable_lora(2, lora_alpha=alpha)
    for weight in model.weights:
        if "lora" in weight.path:  # the second factor starts from zero
            weight.assign(np.random.default_rng(0).normal(0, 0.2, size=weight.shape))
    return compiled(model)


def quantized():
    """Weights of int8, which are constants, and LoRA beside them."""
    model = sequential(keras.Input([4]), layers.Dense(5, activation="tanh"), layers.Dense(3))
    model.quantize("int8")
    for layer in model.layers:
        layer.enable_lora(2)
    return compiled(model)


def partly_frozen():
    model = sequential(
        keras.Input([4]), layers.Dense(6), layers.BatchNormalization(), layers.Dense(3)
    )
    model.layers[0].trainable = model.layers[1].trainable = False
    return compiled(model, keras.optimizers.AdamW(0.01, weight_decay=0.1))


def masked_loss():
    """The loss ignores the label -1."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    return sequential(keras.Input([6, 4]), layers.Dense(3), loss=loss)


def masked():
    """A mask that the loss sees, made from the inputs."""
    return sequential(
        keras.Input([6, 4]),
        layers.Masking(),
        layers.GRU(3, return_sequences=True),
        layers.Dropout(0.2),
        layers.Dense(3),
    )


def with_gaps():
    values = floats(6, 4)
    values[::2, 3:] = values[5, 1:] = 0
    return values


def numbers():
    """Numbers as categories."""
    keras.utils.set_random_seed(4)
    x = keras.Input([2])
    bins = layers.Discretization(bin_boundaries=[-0.5, 0.0, 0.5])(x)
    ids = layers.IntegerLookup(vocabulary=[0, 1, 3])(bins)
    hashed = layers.Hashing(5)(bins)
    crossed = layers.HashedCrossing(5, output_mode="one_hot")((bins[:, 0], bins[:, 1]))
    encoded = layers.CategoryEncoding(4, output_mode="multi_hot")(bins)
    joined = layers.Concatenate()(
        [
            layers.Rescaling(0.5)(x),
            layers.Flatten()(layers.Embedding(5, 2)(ids)),
            layers.Flatten()(layers.Embedding(5, 2)(hashed)),
            crossed,
            encoded,
        ]
    )
    return functional(x, layers.Dense(3)(joined))


def texts():
    vectorization = layers.TextVectorization(output_mode="int", output_sequence_length=4)
    vectorization.adapt(["a b c", "d a"])
    return sequential(
        keras.Input([], dtype="string"),
        vectorization,
        layers.Embedding(7, 4, mask_zero=True),
        layers.LSTM(3),
        layers.Dense(3),
    )


def resized():
    return sequential(
        keras.Input([8, 8, 2]),
        layers.Resizing(6, 6),
        layers.CenterCrop(4, 4),
        layers.Rescaling(2.0, offset=-1.0),
        layers.Flatten(),
        layers.Dense(3),
    )


def spectrogram():
    return sequential(
        keras.Input([64]),
        layers.MelSpectrogram(num_mel_bins=4, sampling_rate=64, fft_length=32, sequence_stride=16),
        layers.Flatten(),
        layers.Dense(3),
    )


def words():
    """A vocabulary inside of the model."""
    keras.utils.set_random_seed(4)
    lookup = layers.StringLookup()
    lookup.adapt(np.array(["a", "b", "c", "d"]))
    parts = layers.Embedding(6, 4), layers.Flatten(), layers.Dense(3)
    return compiled(keras.Sequential([keras.Input([2], dtype="string"), lookup, *parts]))


CASES = {
    "dense": (dense, {"x": floats(4), "y": classes()}),
    "sample weights": (
        dense,
        {
            "x": floats(4),
            "y": classes(),
            "sample_weight": np.linspace(0.1, 2, ROWS, dtype="float32"),
        },
    ),
    "images": (images, {"x": floats(8, 8, 2), "y": classes()}),
    "sequences": (sequences, {"x": floats(8, 2), "y": classes()}),
    "volumes": (volumes, {"x": floats(3, 4, 4, 2), "y": classes()}),
    "normalizations": (normalizations, {"x": floats(4), "y": classes()}),
    "attention": (attention, {"x": padded_ids(), "y": classes()}),
    "masked recurrent": (recurrent, {"x": padded_ids(), "y": classes(6)}),
    "cells": (cells, {"x": floats(6, 4), "y": classes()}),
    "stateful": (stateful, {"x": floats(6, 4), "y": classes()}),
    "nested": (nested, {"x": floats(4), "y": classes()}),
    "graph of operations": (graph_of_ops, {"x": floats(4), "y": classes()}),
    "regularized": (regularized, {"x": floats(4), "y": classes()}),
    "noise": (noisy, {"x": floats(6, 4), "y": classes()}),
    "augmentation": (augmented, {"x": floats(8, 8, 2), "y": classes()}),
    "partly frozen": (partly_frozen, {"x": floats(4), "y": classes()}),
    "frozen inside": (frozen_inside, {"x": floats(4), "y": classes()}),
    "LoRA": (low_rank, {"ids": padded_ids(), "numbers": floats(6, 4), "y": classes()}),
    "quantized": (quantized, {"x": floats(4), "y": classes()}),
    "masked loss": (masked, {"x": with_gaps(), "y": classes(6)}),
    "ignored labels": (masked_loss, {"x": floats(6, 4), "y": classes(6) - 1}),
    "numbers as categories": (numbers, {"x": floats(2), "y": classes()}),
    "texts": (texts, {"x": np.array(["a b", "c e a b d", "d"] * 4, object), "y": classes()}),
    "resized": (resized, {"x": floats(8, 8, 2), "y": classes()}),
    "spectrogram": (spectrogram, {"x": floats(64), "y": classes()}),
    "vocabulary": (
        words,
        {"x": np.array([list("ab")] * 6 + [list("cz")] * 6, object), "y": classes()},
    ),
}


QUICK = ("dense", "nested", "noise", "frozen inside")


@pytest.mark.parametrize("name", quick.only(QUICK, CASES))
def test_layers(name):
    make, columns = CASES[name]
    assert_equals_fit(make, columns)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "normalizations", "regularized", "noise", "masked loss"])
def test_a_smaller_last_batch(name):
    make, columns = CASES[name]
    assert_equals_fit(make, columns, batch_size=5)


@pytest.mark.parametrize("make", [low_rank, quantized])
def test_weights_beside_low_rank_ones_are_constants(make):
    """So clients do not send them, and private aggregators accept the model."""
    model = make()
    assert len(model.non_trainable_weights) >= 4
    assert learner.statistics(model) == []


def test_layers_of_the_same_name_inside_keep_their_weights():
    """Both kernels are called "kernel": weights are matched by position."""
    run = assert_equals_fit(dense, CASES["dense"][1])
    before, after = dense().get_weights(), run.model.get_weights()
    assert [w.shape for w in after] == [(4, 5), (5,), (5, 3), (3,)]
    assert all((a != b).any() for a, b in zip(after, before))
    assert [w.path.rpartition("/")[2] for w in run.model.weights] == ["kernel", "bias"] * 2


class Tied(keras.Model):
    """The embedding is also the output layer's kernel, and the model adds a loss."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(9, 4)
        self.hidden = layers.GRU(4, return_sequences=True)

    def call(self, ids):
        hidden = self.hidden(self.embedding(ids))
        self.add_loss(0.1 * keras.ops.mean(hidden**2))
        return keras.ops.matmul(hidden, keras.ops.transpose(self.embedding.embeddings))


class OwnLoss(Tied):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y_pred - keras.ops.one_hot(y, 9)) ** 2) + sum(self.losses)


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Tied, OwnLoss])
def test_subclassed_models(cls):
    def make():
        keras.utils.set_random_seed(4)
        model = cls()
        model(np.zeros([1, 6], "int32"))
        return compiled(model, metrics=["accuracy"])

    assert_equals_fit(make, {"x": padded_ids(), "y": classes(6)}, from_function=True)


@pytest.mark.parametrize("method", ["train_step", "test_step", "make_train_function"])
def test_own_steps_are_refused(method):
    own = type("Own", (Tied,), {method: lambda self, data: None})

    def make():
        model = own()
        model(np.zeros([1, 6], "int32"))
        return compiled(model)

    clients = fl.ClientData.from_dict({"only": {"x": padded_ids(), "y": classes(6)}})
    with pytest.raises(ValueError, match=f"Own overrides {method}.*compute_loss"):
        fl.simulate(make, clients, rounds=1, clients_per_round=1, progress=False)


def test_untracked_variables_are_refused():
    class Scaled(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.scale = tf.Variable(1.0)

        def call(self, x):
            return x * self.scale

    model = sequential(keras.Input([4]), Scaled(), layers.Dense(3))
    clients = fl.ClientData.from_dict({"only": {"x": floats(4), "y": classes()}})
    with pytest.raises(ValueError, match="keeps a tf.Variable in 'scale'.*add_weight"):
        fl.simulate(model, clients, rounds=1, clients_per_round=1, progress=False)


@pytest.mark.slow
def test_draws_depend_on_the_client_and_round_only():
    """A client trains alike after any other clients and on any worker."""
    data = {f"c{i}": {"x": floats(6, 4, seed=i), "y": classes(seed=i)} for i in range(5)}
    clients, model = fl.ClientData.from_dict(data), noisy()

    def losses(cohort, num_workers):
        options = {"rounds": 1, "seed": 3, "batch_size": 4, "progress": False}
        run = fl.simulate(model, clients, cohort=cohort, num_workers=num_workers, **options)
        return {row["client_id"]: row["loss"] for row in run.clients}

    expected = losses(list(data), 1)
    assert len(set(expected.values())) == 5
    assert losses(list(data)[::-1], 2) == expected
    assert losses(["c3"], 1) == {"c3": expected["c3"]}


@pytest.mark.parametrize("trainable", [True, False])
def test_layers_that_change_their_trainable_weights_are_refused(trainable):
    normalized = layers.SpectralNormalization(layers.Dense(6), name="normalized")
    model = sequential(keras.Input([4]), normalized, layers.Dense(3))
    normalized.trainable = trainable
    clients = fl.ClientData.from_dict({"only": {"x": floats(4), "y": classes()}})
    with pytest.raises(ValueError, match="changes the weight 'dense.*/kernel'"):
        fl.simulate(compiled(model), clients, rounds=1, clients_per_round=1, progress=False)


def test_draws_without_a_seed_warn():
    class Noise(layers.Layer):
        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x))

    model = sequential(keras.Input([4]), Noise(), layers.Dense(3))
    clients = fl.ClientData.from_dict({"only": {"x": floats(4), "y": classes()}})
    with pytest.warns(UserWarning, match="draws from keras.random without a seed.*SeedGenerator"):
        fl.simulate(model, clients, rounds=1, clients_per_round=1, progress=False)
