"""Clients from files of TensorFlow Federated (HDF5, SQLite) and of LEAF (JSON)."""

import concurrent.futures
import importlib.util
import json
import sqlite3

import h5py
import numpy as np
import pytest

from fedlab import ClientData

HAS_TFF = importlib.util.find_spec("tensorflow_federated") is not None


def write_hdf5(path, clients):
    with h5py.File(path, "w") as opened:
        group = opened.create_group("examples")
        for client_id, columns in clients.items():
            mine = group.create_group(client_id)
            for name, column in columns.items():
                mine.create_dataset(name, data=column)


def example(**features):
    import tensorflow as tf

    def feature(values):
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    mapping = {name: feature(values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=mapping)).SerializeToString()


def write_sqlite(path, splits):
    """Splits: split -> client -> serialized examples."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)"
        )
        connection.execute(
            "CREATE TABLE examples "
            "(split_name TEXT, client_id TEXT, serialized_example_proto BLOB)"
        )
        for split, clients in splits.items():
            for client_id, examples in clients.items():
                connection.execute(
                    "INSERT INTO client_metadata VALUES (?, ?, ?)",
                    (client_id, split, len(examples)),
                )
                connection.executemany(
                    "INSERT INTO examples VALUES (?, ?, ?)",
                    [(split, client_id, data) for data in examples],
                )
    connection.close()


PIXELS = np.arange(2 * 4, dtype=np.float32).reshape(2, 2, 2)
EMNIST = {
    "f1": {"pixels": PIXELS, "label": np.array([3, 4], np.int32)},
    "f0": {"pixels": PIXELS[:1] + 9, "label": np.array([5], np.int32)},
}


def test_hdf5(tmp_path):
    write_hdf5(tmp_path / "a.h5", EMNIST)
    clients = ClientData.from_tff_file(tmp_path / "a.h5")
    assert clients.client_ids == ("f0", "f1")  # sorted, as in TFF
    assert sorted(clients["f1"]) == ["label", "pixels"]
    assert clients["f1"]["pixels"].tolist() == PIXELS.tolist()
    assert clients["f1"]["label"].dtype == np.int32
    named = ClientData.from_tff_file(tmp_path / "a.h5", y="label")
    assert list(named["f0"]) == ["x", "y"]
    assert named["f0"]["x"].tolist() == (PIXELS[:1] + 9).tolist()
    assert named["f0"]["y"].tolist() == [5]
    flat = ClientData.from_tff_file(tmp_path / "a.h5", x="pixels", shapes={"pixels": (4,)})
    assert flat["f1"]["x"].shape == (2, 4)
    kept = ClientData.from_tff_file(tmp_path / "a.h5", x={"i": "pixels"}, keep=["label"])
    assert list(kept["f0"]) == ["i", "label"]
    assert named.source.name == "a.h5" and named.source.num_rows == 2


def test_texts_of_hdf5_are_bytes(tmp_path):
    write_hdf5(tmp_path / "a.h5", {"ann": {"snippets": np.array([b"to be", b"or"], "S5")}})
    with h5py.File(tmp_path / "b.h5", "w") as opened:
        texts = opened.create_group("examples/ann")
        texts.create_dataset("snippets", data=["to be", "or"], dtype=h5py.string_dtype())
    for name in ("a.h5", "b.h5"):
        snippets = ClientData.from_tff_file(tmp_path / name)["ann"]["snippets"]
        assert snippets.tolist() == [b"to be", b"or"] and snippets.dtype == object


def test_threads_read_different_clients_of_hdf5(tmp_path):
    write_hdf5(tmp_path / "a.h5", {f"c{i:03}": {"x": np.full([50, 9], i)} for i in range(200)})
    clients = ClientData.from_tff_file(tmp_path / "a.h5")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda name: clients[name]["x"].sum(), clients))
    assert sums == [450 * i for i in range(200)]


def test_sqlite(tmp_path):
    pytest.importorskip("tensorflow")
    splits = {
        "train": {
            "ann": [
                example(tokens=[b"a b"], score=[7], vector=[0.5, 1.5]),
                example(tokens=[b"c"], score=[8], vector=[2.5, 3.5]),
            ],
            "O'Neil": [example(tokens=[b"d"], score=[9], vector=[4.5, 5.5])],
        },
        "test": {"ann": [example(tokens=[b"e"], score=[1], vector=[0.0, 0.0])]},
    }
    write_sqlite(tmp_path / "a.sqlite", splits)
    train = ClientData.from_tff_file(tmp_path / "a.sqlite", split="train")
    assert train.client_ids == ("O'Neil", "ann")
    assert train["ann"]["tokens"].tolist() == [b"a b", b"c"]
    assert train["ann"]["score"].tolist() == [7, 8] and train["ann"]["score"].dtype == np.int64
    assert train["ann"]["vector"].tolist() == [[0.5, 1.5], [2.5, 3.5]]
    assert train["ann"]["vector"].dtype == np.float32
    assert train["O'Neil"]["tokens"].tolist() == [b"d"]
    test = ClientData.from_tff_file(tmp_path / "a.sqlite", split="test", x="tokens", y="score")
    assert test.client_ids == ("ann",) and test["ann"]["x"].tolist() == [b"e"]
    shaped = ClientData.from_tff_file(
        tmp_path / "a.sqlite", split="test", shapes={"vector": (2, 1), "score": (1,)}
    )
    assert shaped["ann"]["vector"].shape == (1, 2, 1) and shaped["ann"]["score"].shape == (1, 1)
    with pytest.raises(ValueError, match="split=None: expected one of 'test', 'train'"):
        ClientData.from_tff_file(tmp_path / "a.sqlite")
    with pytest.raises(ValueError, match="split='tran': expected one of 'test', 'train', the"):
        ClientData.from_tff_file(tmp_path / "a.sqlite", split="tran")


def test_threads_read_different_clients_of_sqlite(tmp_path):
    pytest.importorskip("tensorflow")
    clients = {f"c{i:02}": [example(x=[i]) for _ in range(i + 1)] for i in range(40)}
    write_sqlite(tmp_path / "a.sqlite", {"train": clients})
    data = ClientData.from_tff_file(tmp_path / "a.sqlite")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda name: data[name]["x"].sum(), data))
    assert sums == [i * (i + 1) for i in range(40)]


def test_clients_without_examples(tmp_path):
    clients = {"ann": {"x": np.ones(2)}, "bob": {"x": np.ones(0)}}
    write_hdf5(tmp_path / "a.h5", clients)
    with pytest.raises(ValueError, match="a.h5, client 'bob' has no examples"):
        ClientData.from_tff_file(tmp_path / "a.h5")["bob"]
    kept = ClientData.from_tff_file(tmp_path / "a.h5", skip_invalid=True)
    assert kept.client_ids == ("ann",)
    assert kept.source.skipped == {"clients without examples": 1} and kept.source.num_rows == 2


@pytest.mark.skipif(not HAS_TFF, reason="needs TensorFlow Federated")
def test_the_same_as_tff_reads(tmp_path):
    import tensorflow as tf
    import tensorflow_federated as tff

    examples = [example(x=[i], t=[b"text"]) for i in range(3)]
    write_sqlite(tmp_path / "a.sqlite", {"train": {"b": examples[:2], "a": examples[2:]}})
    spec = {"x": tf.io.FixedLenFeature([], tf.int64), "t": tf.io.FixedLenFeature([], tf.string)}
    theirs = tff.simulation.datasets.SqlClientData(str(tmp_path / "a.sqlite"), "train")
    assert theirs.client_ids == ["a", "b"]
    parsed = {
        client_id: [
            tf.io.parse_single_example(serialized, spec)["x"].numpy()
            for serialized in theirs.create_tf_dataset_for_client(client_id)
        ]
        for client_id in theirs.client_ids
    }
    ours = ClientData.from_tff_file(tmp_path / "a.sqlite")
    assert parsed == {client_id: ours[client_id]["x"].tolist() for client_id in ours}
    assert list(parsed) == list(ours)


# LEAF


def leaf(**user_data):
    sizes = [len(data["y"]) for data in user_data.values()]
    return {"users": list(user_data), "num_samples": sizes, "user_data": user_data}


def test_leaf(tmp_path):
    first = leaf(
        f0={"x": [[0.0, 0.5], [1, 1]], "y": [3, 4]},
        f1={"x": [[1, 1]], "y": [5]},  # 1.0 as 1
    )
    (tmp_path / "b.json").write_text(json.dumps(first))
    (tmp_path / "a.json").write_text(json.dumps(leaf(f2={"x": [[0.25, 0]], "y": [6]})))
    clients = ClientData.from_leaf(tmp_path)
    assert clients.client_ids == ("f2", "f0", "f1")  # in the order of the files' names
    assert clients["f0"]["x"].tolist() == [[0.0, 0.5], [1.0, 1.0]]
    assert {clients[name]["x"].dtype.name for name in clients} == {"float32"}
    assert clients["f1"]["y"].tolist() == [5] and clients["f1"]["y"].dtype == np.int64
    assert clients.source.num_rows == 4
    assert ClientData.from_leaf(tmp_path / "b.json").client_ids == ("f0", "f1")


def test_leaf_texts(tmp_path):
    users = leaf(ann={"x": ["to b", "o be"], "y": ["e", " "]})
    (tmp_path / "a.json").write_text(json.dumps(users))
    ann = ClientData.from_leaf(tmp_path)["ann"]
    assert ann["x"].tolist() == ["to b", "o be"] and ann["y"].tolist() == ["e", " "]


def test_leaf_skips_and_counts(tmp_path):
    nan = float("nan")
    users = leaf(
        ann={"x": [[0.0, nan], [1.0, 2.0]], "y": [0, 1]},
        bob={"x": [[0.5, None]], "y": [1]},
        cat={"x": [], "y": []},
        dan={"x": [[1.0, 1.0]], "y": [1]},
    )
    (tmp_path / "a.json").write_text(json.dumps(users))
    (tmp_path / "b.json").write_text(json.dumps(leaf(dan={"x": [[7.0, 7.0]], "y": [0]})))
    clients = ClientData.from_leaf(tmp_path, skip_invalid=True)
    assert clients.client_ids == ("ann", "dan")
    assert clients["ann"]["x"].tolist() == [[1.0, 2.0]]
    assert clients["ann"]["x"].dtype == np.float32
    assert clients["dan"]["x"].tolist() == [[1.0, 1.0]]
    assert clients.source.skipped == {
        "rows with a missing value": 2,
        "clients without a valid row": 2,
        "clients that occur twice": 1,
    }
    assert clients.source.num_rows == 5
