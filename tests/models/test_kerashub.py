"""Models of KerasHub: copying, fine-tuning, saving, loading and evaluating, without a network."""

import pathlib
import re
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from tests.stacks import IS_KERAS_3

if not IS_KERAS_3:
    pytest.skip("KerasHub needs Keras 3", allow_module_level=True)
keras_hub = pytest.importorskip("keras_hub")

hub = keras_hub.models
keras = tf.keras
LENGTH = 6
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the a good bad day night".split()
TEXTS = np.array(["the good day", "a bad night", "the bad day", "good"] * 3, object)
LABELS = np.array([0, 1, 1, 2] * 3)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def bert_backbone():
    return hub.BertBackbone(
        vocabulary_size=len(WORDS),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=LENGTH,
        dropout=0.0,
    )


def classifier():
    keras.utils.set_random_seed(0)
    preprocessor = hub.BertTextClassifierPreprocessor(
        hub.BertTokenizer(vocabulary=WORDS, lowercase=True), sequence_length=LENGTH
    )
    model = hub.BertTextClassifier(bert_backbone(), 3, preprocessor=preprocessor, dropout=0.0)
    model.compile(
        keras.optimizers.SGD(0.5, momentum=0.75),
        loss(),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def language_model():
    keras.utils.set_random_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = {
        piece: i for i, piece in enumerate(["<|endoftext|>", *letters, "\u0120", "th", "the"])
    }
    tokenizer = hub.GPT2Tokenizer(vocabulary=vocabulary, merges=["t h", "th e"])
    backbone = hub.GPT2Backbone(
        vocabulary_size=len(vocabulary),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=LENGTH,
        dropout=0.0,
    )
    model = hub.GPT2CausalLM(
        backbone, preprocessor=hub.GPT2CausalLMPreprocessor(tokenizer, sequence_length=LENGTH)
    )
    model.compile(
        keras.optimizers.SGD(0.5, momentum=0.75),
        loss(),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        sampler="greedy",
    )
    return model


def headed_backbone():
    """A backbone with a head of our own."""
    keras.utils.set_random_seed(0)
    backbone = bert_backbone()
    outputs = keras.layers.Dense(3)(backbone(backbone.input)["pooled_output"])
    model = keras.Model(backbone.input, outputs)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.75), loss(), metrics=["accuracy"])
    return model


def prepared(model):
    """The columns that a model trains on."""
    if isinstance(model, hub.CausalLM):
        x, y, weight = model.preprocessor(TEXTS.tolist())
        return {**x, "y": y, "sample_weight": weight}
    x, y = classifier().preprocessor(TEXTS, y=LABELS)
    return {**x, "y": y}


def client_of(columns):
    return fl.clients.ClientData.from_dict({"ann": {k: np.asarray(v) for k, v in columns.items()}})


def simulated(model, **options):
    clients = client_of(prepared(model))
    return fl.simulate(
        model,
        clients,
        rounds=1,
        cohort=["ann"],
        batch_size=4,
        shuffle=False,
        evaluate_on=clients,
        progress=False,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("build", [classifier, language_model, headed_backbone])
def test_three_steps_equal_fit(build, tmp_path):
    model = build()
    run = simulated(model, run_dir=tmp_path / "run")
    assert type(run.model) is type(model)
    plain = build()
    columns = prepared(plain)
    rest = {name: columns.pop(name) for name in ("y", "sample_weight") if name in columns}
    if build is not headed_backbone:
        plain.preprocessor = None
    plain.fit(columns, batch_size=4, shuffle=False, verbose=0, **rest)
    for ours, theirs in zip(run.model.trainable_weights, plain.trainable_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    moved = [np.abs(a - b).max() for a, b in zip(plain.get_weights(), model.get_weights())]
    assert max(moved) > 0.01

    loaded = fl.models.load(tmp_path / "run" / "model.keras")
    assert type(loaded) is type(model)
    results = fl.evaluate(loaded, client_of(prepared(model)))
    for name, value in results.items():
        assert value == pytest.approx(run.history[-1][f"test_{name}"], rel=1e-6)


@pytest.mark.slow
def test_a_loaded_task_reads_texts_and_keeps_its_training_settings(tmp_path):
    model = classifier()
    run = simulated(model)
    run.model.fit(TEXTS, LABELS, batch_size=4, shuffle=False, verbose=0)
    run.model.save(tmp_path / "model.keras")
    loaded = fl.models.load(tmp_path / "model.keras")
    assert loaded.optimizer.get_config()["momentum"] == 0.75
    assert [m.name for m in loaded.metrics] == [m.name for m in run.model.metrics]
    np.testing.assert_array_equal(
        loaded.predict(TEXTS[:2], verbose=0), run.model.predict(TEXTS[:2], verbose=0)
    )
    for each in (loaded, run.model):  # with the optimizer's momenta
        each.fit(TEXTS, LABELS, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(loaded.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_language_model_generates(tmp_path):
    model = language_model()
    run = simulated(model)
    text = run.model.generate("the", max_length=LENGTH)
    assert text.startswith("the") and type(run.model.sampler) is type(model.sampler)
    run.model.save(tmp_path / "model.keras")
    loaded = fl.models.load(tmp_path / "model.keras")
    loaded.compile(sampler="greedy")
    assert loaded.generate("the", max_length=LENGTH) == text


@pytest.mark.slow
@pytest.mark.parametrize("build", [classifier, language_model])
def test_presets_in_a_folder(tmp_path, build):
    model = build()
    model.save_to_preset(str(tmp_path / "preset"))
    kind = hub.CausalLM if build is language_model else hub.TextClassifier
    preset = kind.from_preset(str(tmp_path / "preset"))
    preset.compile("sgd", loss())
    clone = fl.models.clone(preset)
    for ours, theirs in zip(clone.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert simulated(preset).history[-1]["train_loss"] > 0


@pytest.mark.slow
def test_frozen_backbone():
    model = classifier()
    fl.models.freeze(model, model.backbone.name)
    run = simulated(model)
    for ours, before in zip(run.model.backbone.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, before)
    assert np.abs(run.model.output_dense.kernel - model.output_dense.kernel).max() > 0


def test_texts_are_refused_with_advice():
    model = classifier()
    clients = client_of({"x": TEXTS, "y": LABELS})
    with pytest.raises(ValueError, match=r"map the clients' data with model\.preprocessor") as e:
        fl.simulate(model, clients, rounds=1, clients_per_round=1, progress=False)
    assert "\n" not in str(e.value)


def test_another_precision_is_refused_with_advice():
    clients = client_of(prepared(classifier()))
    with pytest.raises(ValueError, match="dtype='mixed_bfloat16'") as raised:
        fl.simulate(
            classifier(),
            clients,
            rounds=1,
            clients_per_round=1,
            precision="bfloat16",
            progress=False,
        )
    assert "\n" not in str(raised.value)


def test_a_tokenizer_that_reads_a_file_is_refused(tmp_path):
    classifier().save(tmp_path / "model.keras")
    (tmp_path / "secret").write_text("password\n")
    with (
        zipfile.ZipFile(tmp_path / "model.keras") as good,
        zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad,
    ):
        for name in good.namelist():
            data = good.read(name)
            if name == "config.json":
                text = data.decode()
                assert '"vocabulary": null' in text
                data = text.replace('"vocabulary": null', f'"vocabulary": "{tmp_path / "secret"}"')
            bad.writestr(name, data)
    with pytest.raises(ValueError, match="that reads a file, .*secret"):
        fl.models.load(tmp_path / "bad.keras")


@pytest.mark.slow
def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    page = pathlib.Path(__file__).parents[2] / "docs" / "kerashub.md"
    after = page.read_text().partition("This runs without a network:")[2]
    program = re.search("```python\n(.*?)```", after, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(program, names)  # noqa: S102
    assert names["run"].history[-1]["train_loss"] > 0
