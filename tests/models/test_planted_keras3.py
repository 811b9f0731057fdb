"""Files that would make Keras 3 run code, import modules, or read other files are refused."""

import io
import json
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import saving

if saving.VERSION != 3:
    pytest.skip("Keras 3 is not installed", allow_module_level=True)

layers = tf.keras.layers


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "good.keras"
    tf.keras.Sequential([layers.Input([2]), layers.Dense(1, name="dense")]).save(path)
    return path


def repacked(source, target, added=(), **changed):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name.partition(".")[0], bytes)(old.read(name)))
        for name, data in dict(added).items():
            new.writestr(name, data)
    return target


def with_dense(change):
    def apply(data):
        config = json.loads(data)
        change(config["config"]["layers"][-1])
        return json.dumps(config).encode()

    return apply


def activation(**item):
    return lambda dense: dense["config"].update(activation=item)


def item(**changes):
    return lambda dense: dense.update(changes)


FUNCTION = {"class_name": "function", "registered_name": "f"}
PLANTED = {
    "lambda layer": item(class_name="Lambda", config={"name": "f", "function": {}}),
    "lambda": activation(class_name="__lambda__", config={"value": "4wE="}),
    "a function of os": activation(module="os", config="system", **FUNCTION),
    "a downloader": activation(module="keras.utils", config="get_file", **FUNCTION),
    "a loader": activation(module="keras.models", config="load_model", **FUNCTION),
    "a function as a class": activation(module="keras.utils", class_name="get_file", config={}),
    "a module that is not imported": item(module="keras.src.utils.torch_utils"),
    "a wrapper of PyTorch": item(class_name="TorchModuleWrapper", config={"module": "gA=="}),
    "a SavedModel": item(class_name="TFSMLayer", config={"filepath": "/tmp/model"}),
    "a wrapper of JAX": item(class_name="JaxLayer", config={"call_fn": {}}),
    "KerasHub": item(module="keras_hub.src.models", class_name="Backbone"),
    "another module": item(module="antigravity"),
    "a value": activation(module="antigravity", class_name="InputSpec", config={}),
    "a shape": activation(module="keras_cv", class_name="TensorShape", config={}),
    "a type": activation(
        module="keras.src.utils.torch_utils",
        class_name="__typespec__",
        spec_name="TorchModuleWrapper",
        registered_name=None,
        config=[],
    ),
    "a loop": item(module="keras.src.ops.core", class_name="WhileLoop"),
    "a registered name": item(registered_name="evil>Dense"),
    "no text": item(class_name=["Dense"]),
    "a module that is no text": item(module=["os"]),
    "words of a file": item(
        class_name="StringLookup", config={"name": "w", "vocabulary": "/etc/passwd"}
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_configurations(good, tmp_path, kind):
    path = repacked(good, tmp_path / "bad.keras", config=with_dense(PLANTED[kind]))
    before = set(sys.modules)
    with pytest.raises(ValueError, match="holds a .*trust_model=True") as raised:
        fl.models.load(path)
    assert "\n" not in str(raised.value)
    assert not {
        name for name in set(sys.modules) - before if name.startswith(("keras", "antigravity"))
    }


@pytest.mark.parametrize("kind", ["a function of os", "a downloader", "lambda"])
def test_code_in_the_training_settings_leaves_these_out(good, tmp_path, kind, caplog):
    def change(data):
        dense = {"config": {}}
        PLANTED[kind](dense)
        loss = dense["config"]["activation"]
        config = json.loads(data)
        config["compile_config"] = {"optimizer": "sgd", "loss": loss}
        return json.dumps(config).encode()

    loaded = fl.models.load(repacked(good, tmp_path / "bad.keras", config=change))
    assert not loaded.compiled and "without its training settings" in caplog.text


@pytest.mark.parametrize(
    "name", ["../evil.txt", "assets/../../evil.txt", "/evil.txt", "assets\\..\\evil", "evil.py"]
)
def test_names_that_leave_the_archive(good, tmp_path, name):
    path = repacked(good, tmp_path / "bad.keras", {name: b"text"})
    with pytest.raises(ValueError, match="file with the name"):
        fl.models.load(path)


def test_a_name_that_occurs_twice(good, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = repacked(good, tmp_path / "bad.keras", {"config.json": b"{}"})
    with pytest.raises(ValueError):
        fl.models.load(path)


def test_pickled_weights(good, tmp_path):
    weights = io.BytesIO()
    np.savez(weights, **{"layers/dense/vars": np.array({"0": 1}, object)})
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(tmp_path / "bad.keras", "w") as new:
        for name in ("config.json", "metadata.json"):
            new.writestr(name, old.read(name))
        new.writestr("model.weights.npz", weights.getvalue())
    with pytest.raises(ValueError, match="weights other than HDF5"):
        fl.models.load(tmp_path / "bad.keras")


@pytest.mark.parametrize("plant", ["link", "external", "virtual"])
def test_weights_in_other_files(good, tmp_path, plant):
    secret = tmp_path / "secret"
    with h5py.File(secret, "w") as file:
        file["data"] = np.ones([1], np.float32)

    def change(data):
        buffer = io.BytesIO(data)
        with h5py.File(buffer, "r+") as file:
            del file["layers/dense/vars/1"]
            if plant == "link":
                file["layers/dense/vars/1"] = h5py.ExternalLink(secret, "/data")
            elif plant == "external":
                file.create_dataset(
                    "layers/dense/vars/1", [1], "f4", external=[(str(secret), 0, 4)]
                )
            else:
                layout = h5py.VirtualLayout((1,), "f4")
                layout[:] = h5py.VirtualSource(str(secret), "data", (1,))
                file.create_virtual_dataset("layers/dense/vars/1", layout)
        return buffer.getvalue()

    with pytest.raises(ValueError, match="another file"):
        fl.models.load(repacked(good, tmp_path / "bad.keras", model=change))


def test_a_layer_of_a_billion_units(good, tmp_path):
    path = repacked(
        good,
        tmp_path / "bad.keras",
        config=lambda data: data.replace(b'"units": 1', b'"units": 1000000000'),
    )
    with pytest.raises(ValueError, match="weights take more than 64 MB"):
        fl.models.load(path)


@pytest.mark.parametrize("suffix", ["h5", "model"])
def test_hdf5_files_of_keras_3(tmp_path, suffix):
    model = tf.keras.Sequential([layers.Input([2]), layers.Dense(1, name="dense")])
    model.compile(tf.keras.optimizers.Adam(0.125), "mse", metrics=["mae"])
    data = np.ones([3, 2], np.float32), np.zeros([3, 1], np.float32)
    model.fit(*data, verbose=0)
    model.save(tmp_path / "model.h5")
    path = (tmp_path / "model.h5").rename(tmp_path / f"my.{suffix}")
    loaded = fl.models.load(path)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    assert float(loaded.optimizer.learning_rate) == 0.125
    assert loaded.evaluate(*data, verbose=0) == model.evaluate(*data, verbose=0)
    for each in (model, loaded):
        each.fit(*data, verbose=0)  # with the optimizer's moments
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1]["class_name"] = "TFSMLayer"
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ValueError, match="custom class 'TFSMLayer'"):
        fl.models.load(path)


def test_a_saved_model_folder(tmp_path):
    for name in ("saved_model.pb", "keras_metadata.pb"):
        (tmp_path / name).touch()
    with pytest.raises(
        ValueError, match="SavedModel folder, .*run `fedlab convert .* with Keras 2"
    ):
        fl.models.load(tmp_path)


def test_operations_of_functional_models_need_no_trust(tmp_path):
    x = layers.Input([3])
    model = tf.keras.Model(x, tf.keras.ops.concatenate([x * 2.0 + 1.0, x[:, :1]], 1))
    model.save(tmp_path / "model.keras")
    values = np.ones([2, 3], np.float32)
    np.testing.assert_array_equal(fl.models.load(tmp_path / "model.keras")(values), model(values))
