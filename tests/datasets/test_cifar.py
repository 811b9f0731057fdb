"""CIFAR-10 and CIFAR-100: the binary files, the crop, and the clients."""

import io
import tarfile

import numpy as np
import pytest

from fedlab.clients import partitioners
from fedlab.datasets import _cifar_files, cifar10
from tests.datasets.test_image_files import nearest_mean_accuracy

SIZES = {"train": 50, "test": 10}


def images(part):
    rng = np.random.default_rng(len(part))
    return rng.integers(0, 256, [SIZES[part], 32, 32, 3], dtype=np.uint8)


def records(x, *labels):
    """The bytes of a binary file: labels, then the planes of red, green and blue."""
    planes = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return np.concatenate([np.stack(labels, axis=1).astype(np.uint8), planes], axis=1).tobytes()


def files():
    x, y = images("train"), np.arange(50) % 10
    made = {f"data_batch_{i + 1}.bin": records(x[k : k + 10], y[k : k + 10])
            for i, k in enumerate(range(0, 50, 10))}  # fmt: skip
    return made | {"test_batch.bin": records(images("test"), np.arange(10))}


def archive(file, contents):
    with tarfile.open(file, "w:gz") as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(cifar10, "NUM_EXAMPLES", SIZES)


@pytest.mark.parametrize("packed", [True, False])
def test_cifar10_of_an_archive_or_its_files(few, tmp_path, packed):
    if packed:
        archive(tmp_path / cifar10.FILE.name, files())
    else:
        for name, data in files().items():
            (tmp_path / name).write_bytes(data)
    train, test = cifar10.load(path=tmp_path, partitioner=partitioners.natural("y"), crop=32)
    assert train.client_ids == tuple("0123456789") and test.client_ids == ("test",)
    x = images("train")[3::10].astype(np.float64)
    expected = (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(train["3"]["x"], expected, atol=1e-5)
    assert train["3"]["y"].tolist() == [3] * 5
    assert test["test"]["y"].tolist() == list(range(10))


def test_the_crop_is_the_center(few, tmp_path):
    archive(tmp_path / cifar10.FILE.name, files())
    _, test = cifar10.load(path=tmp_path, partitioner=partitioners.natural("y"))
    x = images("test")[:, 4:28, 4:28].astype(np.float64)
    expected = (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(test["test"]["x"], expected, atol=1e-5)


def test_standardization_is_tensorflows():
    import tensorflow as tf

    x = np.concatenate([images("test"), np.full([1, 32, 32, 3], 7, np.uint8)])
    for crop in (24, 31, 32):
        cropped = tf.image.resize_with_crop_or_pad(x.astype(np.float32), crop, crop)
        expected = tf.image.per_image_standardization(cropped)
        np.testing.assert_allclose(_cifar_files.standardized(x, crop), expected, atol=1e-5)


def test_mistakes(few, tmp_path):
    with pytest.raises(FileNotFoundError, match="data_batch_1.bin ... test_batch.bin can be there"):
        cifar10.load(path=tmp_path)
    for name, data in files().items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "data_batch_3.bin").write_bytes(b"x" * 3000)
    with pytest.raises(ValueError, match="has 3000 bytes: expected a multiple of 3073"):
        cifar10.load(path=tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(records(images("test"), np.full(10, 10)))
    with pytest.raises(ValueError, match="labels from 0 to 10: expected 0 to 9"):
        cifar10.load(path=tmp_path)
    archive(tmp_path / "other.tar.gz", {"data_batch_1.bin": b""})
    with pytest.raises(ValueError, match="expected one file 'data_batch_2.bin' .* found 0"):
        cifar10.load(path=tmp_path / "other.tar.gz")
    with pytest.raises(ValueError, match="crop=33: expected an integer between 1 and 32"):
        cifar10.load("synthetic", crop=33)


def test_synthetic_images_can_be_learned():
    train, test = cifar10.synthetic(num_clients=20)
    assert nearest_mean_accuracy(train, test) > 0.9


def test_images_that_tfds_prepared(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    import tensorflow as tf

    x, y = images("test"), np.arange(10)
    rows, few = (
        tf.data.Dataset.from_tensor_slices({"image": x[:n], "label": y[:n]}) for n in (10, 4)
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version="3.0.2",
        data_dir=str(tmp_path),
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        split_datasets={"train": rows, "test": few},
        disable_shuffling=True,
    )
    train, test = cifar10.load("tfds", path=tmp_path, partitioner=partitioners.natural("y"))
    assert test.num_examples("test") == 4
    expected = _cifar_files.standardized(x[7:8], 24)
    np.testing.assert_array_equal(train["7"]["x"], expected)
    with pytest.raises(FileNotFoundError, match="cifar10, which is not prepared there"):
        cifar10.load("tfds", path=tmp_path / "elsewhere")
