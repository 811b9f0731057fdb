"""The estimate of a model's arithmetic, against counts by hand."""

import numpy as np
import pytest
import tensorflow as tf

from experiments.bench.workloads import WORKLOADS
from fedlab.learner import multiply_adds

layers = tf.keras.layers


def sequential(*parts):
    return tf.keras.Sequential(parts)


def dense():
    return sequential(layers.Input([4]), layers.Dense(5, activation="relu"), layers.Dense(3))


def dense_at_each_step():
    return sequential(layers.Input([7, 4]), layers.Dense(5))


def convolutions():
    return sequential(
        layers.Input([8, 8, 2]),
        layers.Conv2D(4, 3),  # 6 x 6 positions
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Conv2D(6, 3, padding="same", groups=2),  # 3 x 3 positions
        layers.DepthwiseConv2D(2),  # 2 x 2 positions
        layers.Conv2DTranspose(3, 2, strides=2),  # from 2 x 2 positions
        layers.Flatten(),
        layers.Dense(2),
    )


def channels_first():
    return sequential(layers.Input([2, 8]), layers.Conv1D(4, 3, data_format="channels_first"))


def embedding_and_lstm():
    return sequential(
        layers.Input([10], dtype="int32"),
        layers.Embedding(50, 3, mask_zero=True),
        layers.LSTM(4, return_sequences=True),
        layers.Dense(50),
    )


def gru(**options):
    return sequential(layers.Input([10, 3]), layers.GRU(4, **options), layers.Dropout(0.1))


def bidirectional():
    return sequential(layers.Input([10, 3]), layers.Bidirectional(layers.GRU(4)))


def nested_and_shared():
    inner = sequential(layers.Input([4]), layers.Dense(4))
    x, y = tf.keras.Input([4]), tf.keras.Input([4])
    shared = layers.Dense(4)
    hidden = layers.Concatenate()([shared(inner(x)), inner(shared(y))])
    return tf.keras.Model([x, y], layers.Dense(1)(hidden))


def added_one_by_one():
    model = tf.keras.Sequential([layers.Input([4])])
    for units in (5, 3):
        model.add(layers.Dense(units))
    return model


@pytest.mark.parametrize(
    "make, expected",
    [
        (dense, 4 * 5 + 5 * 3),
        (dense_at_each_step, 7 * 4 * 5),
        # The second convolution sees 2 of the 4 channels; the depthwise one each channel by itself.
        (
            convolutions,
            36 * 9 * 2 * 4 + 9 * 9 * 2 * 6 + 4 * 4 * 6 + 4 * 4 * 6 * 3 + 4 * 4 * 3 * 2,
        ),
        (channels_first, 6 * 3 * 2 * 4),
        (embedding_and_lstm, 10 * (3 * 16 + 4 * 16) + 10 * 4 * 50),
        (gru, 10 * (3 * 12 + 4 * 12)),
        (lambda: gru(reset_after=False), 10 * (3 * 12 + 4 * 12)),
        (bidirectional, 2 * 10 * (3 * 12 + 4 * 12)),
        (nested_and_shared, 4 * 16 + 8),
        (added_one_by_one, 4 * 5 + 5 * 3),
    ],
)
def test_counts_by_hand(make, expected):
    assert multiply_adds(make()) == expected


class Custom(layers.Dense):
    pass


class Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def attention():
    x = tf.keras.Input([5, 4])
    return tf.keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x))


def operation():
    x = tf.keras.Input([5, 4])
    return tf.keras.Model(x, layers.Dense(3)(x + x))


def any_length():
    return sequential(layers.Input([None, 3]), layers.GRU(4))


def nested_of_any_length():
    inner = sequential(layers.Input([None, 3]), layers.Dense(4))
    x = tf.keras.Input([9, 3])
    return tf.keras.Model(x, inner(x))


def subclassed():
    model = Subclassed()
    model(np.zeros([1, 4], np.float32))
    return model


@pytest.mark.parametrize(
    "make",
    [
        attention,
        operation,
        any_length,
        nested_of_any_length,
        subclassed,
        lambda: sequential(layers.Input([4]), Custom(3)),
        lambda: sequential(layers.Input([2, 4]), layers.TimeDistributed(layers.Dense(3))),
        lambda: sequential(layers.Input([2, 4]), layers.RNN(layers.GRUCell(3))),
        lambda: sequential(layers.Input([4]), layers.Lambda(lambda x: x)),
    ],
)
def test_other_models_are_unknown(make):
    assert multiply_adds(make()) is None


# In Sequential models, a third of the FLOPs of training, except for the first layer of W3 and W3b.
@pytest.mark.parametrize(
    "name, expected",
    [
        ("W1", 100 * (256 * 3072 + 1024 * 3072 + 1024 * 86)),
        ("W2", 80 * (8 * 1024 + 3 * 256 * 1024 + 256 * 90)),
        ("W3", 26 * 26 * 9 * 32 + 24 * 24 * 9 * 32 * 64 + 9216 * 128 + 128 * 62),
        ("W3b", 784 * 200 + 200 * 200 + 200 * 62),
        ("W4", None),
    ],
)
def test_models_of_the_benchmark(name, expected):
    assert multiply_adds(WORKLOADS[name].make_model()) == expected
