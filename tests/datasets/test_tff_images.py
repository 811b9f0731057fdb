"""Federated EMNIST and CIFAR-100: the files of TFF, the clients, and the counts."""

import logging
import lzma

import numpy as np
import pytest

from fedlab.datasets import _cifar_files, _counts, cifar100, emnist
from tests.datasets.test_cifar import records
from tests.datasets.test_image_files import nearest_mean_accuracy
from tests.datasets.tff_files import write_hdf5, write_sqlite


def digits(part, client, n):
    rng = np.random.default_rng([len(part), ord(client)])
    return {
        "label": rng.integers(0, 10, n, dtype=np.int32),
        "pixels": rng.random([n, 28, 28]).astype(np.float32),
    }


def emnist_clients(part):
    return {f"f_{client}": digits(part, client, n) for client, n in (("a", 3), ("b", 2))}


def check_emnist(parts, splits):
    for part, clients in zip(parts, splits):
        assert clients.client_ids == ("f_a", "f_b")
        for client_id, expected in emnist_clients(part).items():
            x = clients[client_id]["x"]
            assert x.dtype == np.float32 and x.shape[1:] == (28, 28, 1)
            np.testing.assert_array_equal(x[..., 0], expected["pixels"])
            np.testing.assert_array_equal(clients[client_id]["y"], expected["label"])
            assert clients[client_id]["y"].dtype == np.int32


def test_emnist_of_hdf5_files(tmp_path, caplog):
    for part in ("train", "test"):
        write_hdf5(tmp_path / f"fed_emnist_digitsonly_{part}.h5", emnist_clients(part))
    with caplog.at_level(logging.WARNING):
        check_emnist(("train", "test"), emnist.load(path=tmp_path, task="digits"))
    assert "emnist: train has 2 clients; 3,383 were published" in caplog.text


def test_emnist_of_a_compressed_sqlite_file(tmp_path):
    splits = {
        f"{task}_{part}": emnist_clients(f"{task}_{part}")
        for task in ("all", "digits_only")
        for part in ("train", "test")
    }
    file = write_sqlite(tmp_path / "emnist.sqlite", splits)
    (tmp_path / "emnist_all.sqlite.lzma").write_bytes(lzma.compress(file.read_bytes(), preset=1))
    cache = tmp_path / "cache"
    for task, name in (("characters", "all"), ("digits", "digits_only")):
        loaded = emnist.load(path=tmp_path, task=task, cache_dir=cache)
        check_emnist((f"{name}_train", f"{name}_test"), loaded)
    assert (cache / "emnist" / "emnist_all.sqlite").is_file()
    # The file that was downloaded has to have all clients.
    with pytest.raises(ValueError, match="emnist: train has 2 clients; 3,400 were published"):
        emnist.load(cache_dir=cache)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        emnist.load(path=tmp_path)
    for name in ("emnist_all.sqlite", "emnist_all.sqlite.lzma", "fed_emnist_train.h5"):
        assert name in str(error.value)
    with pytest.raises(ValueError, match="task='letters': expected one of characters, digits"):
        emnist.load(task="letters")


def test_counts_are_compared():
    clients = emnist.synthetic(num_clients=2)[0]
    _counts.check_clients("emnist", "train", clients, 2, strict=True)
    with pytest.raises(ValueError, match="has 2 clients; 3,400 were published; delete"):
        _counts.check_clients("emnist", "train", clients, 3400, strict=True)


@pytest.mark.parametrize("task, num_classes", [("digits", 10), ("characters", 62)])
def test_synthetic_emnist_can_be_learned(task, num_classes):
    train, test = emnist.synthetic(num_clients=60, task=task)
    assert train.client_ids == test.client_ids
    columns = train.to_arrays()
    assert set(columns["y"]) == set(range(num_classes))
    assert np.median(columns["x"]) > 0.85  # the background
    assert nearest_mean_accuracy(train, test) > 0.9


# ---- CIFAR-100 ----


def photos(part, client, n):
    rng = np.random.default_rng([len(part), client])
    return {
        "coarse_label": rng.integers(0, 20, n),
        "image": rng.integers(0, 256, [n, 32, 32, 3], dtype=np.uint8),
        "label": rng.integers(0, 100, n),
    }


def test_cifar100_of_hdf5_files(tmp_path):
    for part, number in (("train", 12), ("test", 3)):
        clients = {str(i): photos(part, i, 4) for i in range(number)}
        write_hdf5(tmp_path / f"fed_cifar100_{part}.h5", clients)
    train, test = cifar100.load(path=tmp_path, crop=32)
    assert len(train) == 12 and test.client_ids == ("test_0", "test_1", "test_2")
    for clients, client_id, expected in (
        (train, "11", photos("train", 11, 4)),
        (test, "test_2", photos("test", 2, 4)),
    ):
        x = _cifar_files.standardized(expected["image"], 32)
        np.testing.assert_array_equal(clients[client_id]["x"], x)
        np.testing.assert_array_equal(clients[client_id]["y"], expected["label"])


def write_binary(folder, n):
    fine = np.arange(n) % 100
    images = np.random.default_rng(0).integers(0, 256, [n, 32, 32, 3], dtype=np.uint8)
    (folder / "train.bin").write_bytes(records(images, fine // 5, fine))
    (folder / "test.bin").write_bytes(records(images[:20], fine[:20] // 5, fine[:20]))
    return images, fine


def test_cifar100_of_the_original_files(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar100, "NUM_EXAMPLES", {"train": 1000, "test": 20})
    images, fine = write_binary(tmp_path, 1000)
    train, test = cifar100.load("binary", path=tmp_path)
    assert len(train) == 500 and test.client_ids == ("test",)
    assert {train.num_examples(client_id) for client_id in train} == {2}
    own = cifar100.load(
        "binary",
        path=tmp_path,
        partitioner=lambda columns: {"one": np.flatnonzero(columns["coarse"] == 3)},
    )[0]
    assert set(own["one"]["y"]) == set(range(15, 20))
    np.testing.assert_array_equal(
        own["one"]["x"], _cifar_files.standardized(images[fine // 5 == 3], 24)
    )
    monkeypatch.setattr(cifar100, "NUM_EXAMPLES", {"train": 50_000, "test": 20})
    with pytest.raises(ValueError, match=r"uint8 \[1000, 32, 32, 3\]: expected uint8 \[50000"):
        cifar100.load("binary", path=tmp_path)


def test_pachinko_gives_few_coarse_labels_per_client():
    fine = np.arange(50_000) % 100
    partition = cifar100.pachinko(fine, fine // 5)
    assert len(partition) == 500 and {len(rows) for rows in partition.values()} == {100}
    assert sorted(np.concatenate(list(partition.values())).tolist()) == list(range(50_000))
    coarse = [len(np.unique(fine[rows] // 5)) for rows in list(partition.values())[:100]]
    assert np.mean(coarse) < 8  # of 20


def test_a_partitioner_is_for_files_without_clients():
    with pytest.raises(ValueError, match="partitioner with source='auto': .*source='binary'"):
        cifar100.load(partitioner={"a": [0]})


def test_synthetic_cifar100_can_be_learned():
    train, test = cifar100.synthetic(num_clients=80)
    assert len(test) == 20 and not set(train) & set(test)
    assert nearest_mean_accuracy(train, test) > 0.9
