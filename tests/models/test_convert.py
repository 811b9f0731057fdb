"""Converting model files between Keras 2 and Keras 3, in both directions."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import cli
from fedlab.learner import saving
from fedlab.models import _conversion, _conversion_graph
from fedlab.models.convert import ConversionError, convert
from tests import quick
from tests.models import standard_models

layers = tf.keras.layers
HERE, THERE = (f"keras{version}" for version in (saving.VERSION, 5 - saving.VERSION))


def saved(build, path):
    """Saves a compiled model, and returns it."""
    model = standard_models.randomized(build())
    model.compile(tf.keras.optimizers.Adam(0.125), "mse", metrics=["mae"])
    model.save(path)
    return model


@pytest.mark.parametrize("build", quick.only(standard_models.ALL[::5], standard_models.ALL))
def test_there_and_back(tmp_path, build):
    tf.keras.backend.clear_session()
    model = saved(build, tmp_path / "here.keras")
    convert(tmp_path / "here.keras", tmp_path / "there.keras", THERE)
    with zipfile.ZipFile(tmp_path / "there.keras") as archive:
        assert json.loads(archive.read("metadata.json"))["keras_version"][0] == THERE[-1]
    convert(tmp_path / "there.keras", tmp_path / "back.keras")
    for name in ("there.keras", "back.keras"):
        loaded = fl.models.load(tmp_path / name)
        for ours, theirs in zip(
            standard_models.outputs_of(loaded), standard_models.outputs_of(model), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert isinstance(loaded.optimizer, tf.keras.optimizers.Adam)
        assert float(loaded.optimizer.learning_rate) == 0.125


OPTIMIZERS = [
    lambda: tf.keras.optimizers.SGD(0.125),
    lambda: tf.keras.optimizers.SGD(0.125, momentum=0.5),
    lambda: tf.keras.optimizers.SGD(
        tf.keras.optimizers.schedules.ExponentialDecay(0.25, 1, 0.5), momentum=0.5
    ),
    lambda: tf.keras.optimizers.Adam(0.125, amsgrad=True),
    lambda: tf.keras.optimizers.AdamW(0.125, use_ema=True),
    lambda: tf.keras.optimizers.RMSprop(0.125, momentum=0.5, centered=True),
    lambda: tf.keras.optimizers.Adagrad(0.125),
    lambda: tf.keras.optimizers.Adadelta(0.125),
    lambda: tf.keras.optimizers.Adamax(0.125),
    lambda: tf.keras.optimizers.Lion(0.125),
    lambda: tf.keras.optimizers.Ftrl(0.125),
]


STEPS = np.arange(12.0, dtype=np.float32).reshape(6, 2) / 8, np.ones([6, 1], np.float32)


def stepped(optimizer):
    """A model after three steps of training."""
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(3), layers.Dense(1)])
    standard_models.randomized(model).compile(optimizer, "mse")
    for _ in range(3):
        model.train_on_batch(*STEPS)
    return model


@pytest.mark.parametrize("optimizer", quick.only([*OPTIMIZERS][:3], OPTIMIZERS))
def test_the_state_of_optimizers(tmp_path, optimizer):
    """A converted model goes on as the original does."""
    model = stepped(optimizer())
    model.save(tmp_path / "here.keras")
    convert(tmp_path / "here.keras", tmp_path / "there.keras")
    loaded = fl.models.load(tmp_path / "there.keras")
    # Keras 2 has momenta even of SGD without momentum, which Keras 3 does not save.
    assert int(np.asarray(loaded.optimizer.iterations)) == 3 or optimizer is OPTIMIZERS[0]
    before = model.get_weights()
    for each in (model, loaded):
        each.train_on_batch(*STEPS)
    for ours, theirs, old in zip(loaded.get_weights(), model.get_weights(), before, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert np.abs(theirs - old).max() > 1e-6


OTHER_STEPS = """
import pathlib, sys
import numpy as np, tensorflow as tf
from tests.models import test_convert
folder = pathlib.Path(sys.argv[1])
for i, optimizer in enumerate(test_convert.OPTIMIZERS):
    model = tf.keras.models.load_model(folder / f"{i}.converted.keras")
    model.train_on_batch(*test_convert.STEPS)
    np.savez(folder / f"{i}.npz", *model.get_weights())
    model = test_convert.stepped(optimizer())
    model.save(folder / f"{i}.other.keras")
    model.train_on_batch(*test_convert.STEPS)
    np.savez(folder / f"{i}.other.npz", *model.get_weights())
"""


@pytest.mark.slow
def test_the_other_keras_goes_on_with_the_state_of_optimizers(tmp_path, other_python):
    models = [stepped(optimizer()) for optimizer in OPTIMIZERS]
    for i, model in enumerate(models):
        model.save(tmp_path / "model.keras")
        convert(tmp_path / "model.keras", tmp_path / f"{i}.converted.keras", THERE)
        model.train_on_batch(*STEPS)
    run_other(other_python, OTHER_STEPS, tmp_path)
    for i, model in enumerate(models):
        loaded = fl.models.load(tmp_path / f"{i}.other.keras")
        loaded.train_on_batch(*STEPS)
        for name, ours in ((f"{i}.npz", model), (f"{i}.other.npz", loaded)):
            with np.load(tmp_path / name) as theirs:
                for weight, key in zip(ours.get_weights(), theirs.files, strict=True):
                    np.testing.assert_allclose(weight, theirs[key], atol=1e-6, err_msg=name)


def test_the_state_of_other_optimizers_is_left_out_with_a_warning(tmp_path, caplog):
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(1)])
    model.compile(tf.keras.optimizers.Adafactor(), "mse")
    model.train_on_batch(np.ones([3, 2]), np.ones([3, 1]))
    model.save(tmp_path / "here.keras")
    convert(tmp_path / "here.keras", tmp_path / "there.keras")
    assert "without the state of its optimizer" in caplog.text


OTHER = """
import pathlib, sys
import numpy as np, tensorflow as tf
from tests.models import standard_models
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.converted.keras")):
    model = tf.keras.models.load_model(path)
    name = path.name.partition(".")[0]
    np.savez(folder / f"{name}.npz", *standard_models.outputs_of(model))
for build in standard_models.ALL:
    tf.keras.backend.clear_session()
    model = standard_models.randomized(build())
    model.save(folder / f"{build.__name__}.other.keras")
    np.savez(folder / f"{build.__name__}.other.npz", *standard_models.outputs_of(model))
    if tf.__version__.startswith("2.14"):
        model.compile("adam", "mse", metrics=["mae"])
        try:
            model.save(folder / f"{build.__name__}.other.h5")
        except NotImplementedError:  # tables of words
            (folder / f"{build.__name__}.other.h5").unlink()
"""
DICKENS = np.arange(40).reshape(2, 20) % 86


@pytest.fixture
def other_python():
    """The interpreter of the other stack."""
    root = pathlib.Path(__file__).resolve().parents[2]
    default = root / (".venv" if saving.VERSION == 2 else ".venv-tff") / "bin" / "python"
    python = pathlib.Path(os.environ.get("FEDLAB_OTHER_PYTHON", default))
    if not python.is_file() or python.absolute() == pathlib.Path(sys.executable).absolute():
        pytest.skip(f"no environment with Keras {5 - saving.VERSION}: set FEDLAB_OTHER_PYTHON")
    return python


def run_other(python, program, folder):
    """Runs a program, given a folder, in the other stack."""
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [str(python), "-c", program, str(folder)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_other_keras_computes_the_same(tmp_path, other_python):
    """Plain Keras of the other version loads our files, and we load its files."""
    expected = {}
    for build in standard_models.ALL:
        tf.keras.backend.clear_session()
        model = saved(build, tmp_path / "model.keras")
        name = build.__name__
        convert(tmp_path / "model.keras", tmp_path / f"{name}.converted.keras", THERE)
        expected[name] = standard_models.outputs_of(model)
    run_other(other_python, OTHER, tmp_path)
    for name, values in expected.items():
        with np.load(tmp_path / f"{name}.npz") as theirs:
            for ours, key in zip(values, theirs.files, strict=True):
                np.testing.assert_allclose(ours, theirs[key], atol=1e-6, err_msg=name)
        for file in sorted(tmp_path.glob(f"{name}.other.*[5s]")):
            loaded = fl.models.load(file)
            assert file.suffix == ".keras" or isinstance(loaded.optimizer, tf.keras.optimizers.Adam)
            with np.load(tmp_path / f"{name}.other.npz") as theirs:
                for value, key in zip(
                    standard_models.outputs_of(loaded), theirs.files, strict=True
                ):
                    np.testing.assert_allclose(value, theirs[key], atol=1e-6, err_msg=file.name)


@pytest.mark.slow
def test_the_shipped_model_computes_the_same_in_the_other_keras(tmp_path, other_python):
    model = fl.models.load("dickens_char_rnn")
    model.save(tmp_path / "model.keras")
    convert(tmp_path / "model.keras", tmp_path / "there.keras")
    np.save(tmp_path / "x.npy", DICKENS)
    program = (
        "import sys, numpy as np, tensorflow as tf; model = tf.keras.models.load_model(sys.argv[1])"
        "; np.save(sys.argv[2], model(np.load(sys.argv[3])))"
    )
    subprocess.run(
        [
            str(other_python),
            "-c",
            program,
            *(str(tmp_path / name) for name in ("there.keras", "out.npy", "x.npy")),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    np.testing.assert_allclose(model(DICKENS), np.load(tmp_path / "out.npy"), atol=1e-5)


def refused(model, tmp_path, message):
    model.save(tmp_path / "model.keras")
    with pytest.raises(ConversionError, match=message) as raised:
        convert(tmp_path / "model.keras", tmp_path / "out.keras")
    assert "\n" not in str(raised.value) and not (tmp_path / "out.keras").exists()


def test_what_the_versions_compute_differently_is_refused(tmp_path):
    x = layers.Input([4])
    for layer, message in [
        (layers.Dense(2, "hard_sigmoid", name="d"), "layer 'd' .*activation='hard_sigmoid'"),
        (layers.Lambda(lambda x: x, name="f"), r"layer 'f' \(Lambda\): expected a standard layer"),
    ]:
        refused(tf.keras.Model(x, layer(x)), tmp_path, message)
    refused(tf.keras.Model(x, x**2.0), tmp_path, "operation .*: expected standard layers, or one")


def test_training_settings_that_cannot_be_converted_are_left_out(tmp_path, caplog):
    def loss(y, predicted):
        return tf.reduce_mean(y - predicted)

    model = standard_models.dense()
    model.compile("sgd", loss)
    model.save(tmp_path / "model.keras")
    convert(tmp_path / "model.keras", tmp_path / "out.keras")
    assert "without its training settings" in caplog.text and "loss" in caplog.text


def test_losses_schedules_and_metrics(tmp_path):
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(3)])
    model.compile(
        tf.keras.optimizers.SGD(
            tf.keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5), momentum=0.75
        ),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        metrics=[tf.keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top")],
        weighted_metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    model.save(tmp_path / "model.keras")
    convert(tmp_path / "model.keras", tmp_path / "there.keras")
    loaded = fl.models.load(tmp_path / "there.keras")
    config = loaded.optimizer.get_config()
    assert config["momentum"] == 0.75
    assert config["learning_rate"]["config"]["initial_learning_rate"] == 0.5
    x, y = np.ones([4, 2], np.float32), np.array([0, 1, -1, 2])
    np.testing.assert_allclose(
        loaded.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-6
    )


def test_the_order_of_layers_is_that_of_keras(tmp_path):
    """The converter computes it from the calls alone."""
    read = {2: _conversion_graph.read_keras2, 3: _conversion_graph.read_keras3}[saving.VERSION]
    for build in standard_models.ALL:
        build().save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as archive:
            item = json.loads(archive.read("config.json"))
        if item["class_name"] == "Functional":
            graph = read(item["config"])
            names = [layer["name"] for layer in item["config"]["layers"]]
            found = _conversion_graph.order(graph)
            assert [name for name in names if name in graph.calls] == found, build.__name__


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"class_name": "Attack"}, "Attack"),
        ({"module": "os"}, "custom class 'Dense' of module 'os'"),
        ({"module": "keras.src.ops.numpy"}, "expected standard layers"),
        ({"registered_name": "evil>Dense"}, "custom class 'evil>Dense'"),
        ({"class_name": ["Dense"]}, "expected an object with a class_name"),
        ({"config": {"name": "d", "units": {"class_name": "x"}}}, "layer 'd' .*units of class 'x'"),
        ({"config": {"name": "d", "secret": 1}}, "layer 'd' .*secret=1"),
    ],
)
def test_planted_settings(changes, message):
    dense = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 1}}
    item = {"class_name": "Sequential", "config": {"layers": [{**dense, **changes}]}}
    for translate in (_conversion.to_keras2, _conversion.to_keras3):
        with pytest.raises(ConversionError, match=message):
            translate(item)


def test_the_command(tmp_path, capsys):
    saved(standard_models.dense, tmp_path / "in.keras")
    source, target = str(tmp_path / "in.keras"), str(tmp_path / "out.keras")
    assert cli.main(["convert", source, target, f"--to={THERE}"]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert cli.main(["convert", source, target, f"--to={HERE}"]) == 2
    assert "was saved by Keras" in capsys.readouterr().err
    assert cli.main(["convert", source, str(tmp_path / "out.h5")]) == 2
    assert "ends in .keras" in capsys.readouterr().err
