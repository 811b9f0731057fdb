"""The tutorial's model: its size, its loss and accuracy, and that plain Keras loads it."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.models import compile_char_rnn


def test_the_size_of_the_published_model():
    # 86 * 256 embedding + 3 * 1024 * (256 + 1024 + 1) GRU + 1025 * 86 dense
    assert fl.models.char_rnn(reset_after=False).count_params() == 4_045_398
    assert fl.models.char_rnn().count_params() == 4_045_398 + 3 * 1024  # a second bias


def test_layers_and_cells():
    model = fl.models.char_rnn(
        units=3, embedding_dim=2, cell="lstm", num_layers=2, stateful=True, batch_size=5
    )
    assert [type(layer).__name__ for layer in model.layers] == [
        "Embedding",
        "LSTM",
        "LSTM",
        "Dense",
    ]
    assert model.input_shape == (5, None) and model.output_shape == (5, None, 86)
    assert all(layer.stateful for layer in model.layers[1:3])
    assert (
        float(
            fl.models.char_rnn(units=1, embedding_dim=1, learning_rate=0.25).optimizer.learning_rate
        )
        == 0.25
    )


@pytest.mark.parametrize("arguments", [{"cell": "rnn"}, {"stateful": True}])
def test_mistakes(arguments):
    with pytest.raises(ValueError, match="expected"):
        fl.models.char_rnn(units=1, embedding_dim=1, **arguments)


def constant_model(probabilities):
    """A model that gives these probabilities whatever it reads."""
    model = fl.models.char_rnn(vocabulary_size=len(probabilities), units=1, embedding_dim=1)
    *others, bias = model.get_weights()
    model.set_weights(
        [np.zeros_like(weight) for weight in others] + [np.log(probabilities).astype(np.float32)]
    )
    assert bias.shape == (len(probabilities),)
    return model


def test_padding_counts_for_nothing():
    model = constant_model([0.25, 0.5, 0.25])
    x = np.zeros([2, 3], np.int32)
    y = np.array([[1, 0, -1], [1, 1, 1]], np.int32)
    weight = np.array([[1, 1, 0], [1, 1, 1]], np.float32)
    loss, accuracy = model.evaluate(x, y, sample_weight=weight, verbose=0)
    # Of five real characters, four have probability 1/2 and are the most likely; one has 1/4.
    assert loss == pytest.approx((4 * math.log(2) + math.log(4)) / 5, rel=1e-6)
    assert accuracy == pytest.approx(4 / 5)


def test_compile_char_rnn_makes_any_next_character_model_usable():
    model = tf.keras.Sequential(
        [tf.keras.Input([4]), tf.keras.layers.Embedding(86, 2), tf.keras.layers.Dense(86)]
    )
    assert compile_char_rnn(model, 0.125) is model
    before = model.get_weights()
    model.train_on_batch(
        np.ones([1, 4]), np.array([[2, 3, -1, -1]]), sample_weight=np.array([[1, 1, 0, 0]])
    )
    assert float(model.optimizer.learning_rate) == 0.125
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


PLAIN_KERAS = """
import sys, json, numpy as np, tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
data = np.load(sys.argv[2])
weights = data["sample_weight"]
values = model.evaluate(data["x"], data["y"], sample_weight=weights, batch_size=4, verbose=0)
assert not [name for name in sys.modules if name.startswith("fedlab")]
print(json.dumps(values))
"""


@pytest.mark.slow
def test_plain_keras_in_another_process_evaluates_to_the_same(tmp_path):
    _, test = fl.datasets.shakespeare.synthetic(num_clients=2, sequence_length=20)
    columns = test.to_arrays()
    model = fl.models.char_rnn(units=8, embedding_dim=4)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", **columns)
    command = [sys.executable, "-c", PLAIN_KERAS, tmp_path / "model.keras", tmp_path / "data.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    weight = columns["sample_weight"]
    expected = model.evaluate(
        columns["x"], columns["y"], sample_weight=weight, batch_size=4, verbose=0
    )
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, rtol=1e-6)
