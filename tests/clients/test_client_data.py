"""ClientData: reading once, selecting, splitting, and the ways from and to Keras and TFF."""

import subprocess
import sys

import numpy as np
import pytest

from fedlab.clients import columns as columns_lib
from fedlab.clients.client_data import ClientData

TWO = {
    "bob": {"x": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), "y": np.array([0, 1], np.int64)},
    "ann": {"x": np.array([[5.0, 6.0]], np.float32), "y": np.array([1], np.int64)},
}


def two_clients() -> ClientData:
    return ClientData.from_dict(TWO)


def test_clients_stay_in_the_order_given():
    clients = two_clients()
    assert clients.client_ids == ("bob", "ann")
    assert list(clients) == ["bob", "ann"]
    assert len(clients) == 2
    assert "ann" in clients and "eve" not in clients
    assert [clients.num_examples(client_id) for client_id in clients] == [2, 1]
    assert repr(clients) == "ClientData(2 clients: 'bob', 'ann')"


@pytest.mark.parametrize(
    "ids, error, message",
    [
        ([], ValueError, "client_ids is empty: expected at least one client"),
        (["a", "b", "a"], ValueError, "'a' occurs twice: expected unique ids"),
        (["a", 3], TypeError, "client id 3: expected a string"),
        ("abc", TypeError, "client_ids: expected a sequence of strings, got str 'abc'"),
    ],
)
def test_refuses_ids_that_are_none_or_double_or_no_strings(ids, error, message):
    with pytest.raises(error, match=message):
        ClientData(ids, lambda client_id: {"x": [1]})


def test_an_unknown_client_error_names_the_count_and_close_matches():
    clients = ClientData.from_dict({"HAMLET_HAMLET": {"x": [1]}, "KING_LEAR_KENT": {"x": [1]}})
    with pytest.raises(KeyError) as caught:
        clients["HAMLET_HAMLETT"]
    message = caught.value.args[0]
    assert (
        "'HAMLET_HAMLETT'" in message
        and "2 clients" in message
        and "similar: 'HAMLET_HAMLET'" in message
    )
    assert "\n" not in message
    with pytest.raises(KeyError, match="such as 'HAMLET_HAMLET'"):
        clients["zzz"]


def test_a_client_is_loaded_once_and_its_arrays_cannot_be_changed():
    asked = []

    def load(client_id):
        asked.append(client_id)
        return {"x": [1, 2]}

    clients = ClientData(["a", "b"], load)
    assert asked == []
    first, second = clients["a"], clients["a"]
    assert asked == ["a"]
    assert first["x"] is second["x"]
    with pytest.raises(ValueError, match="read-only"):
        first["x"][0] = 7
    first["extra"] = 1  # the dict is the caller's own
    assert list(clients["a"]) == ["x"]


@pytest.mark.parametrize(
    "columns, error, message",
    [
        (
            {"x": [1, 2], "y": [1]},
            ValueError,
            "client 'a' has columns of different lengths {'x': 2, 'y': 1}",
        ),
        ({}, ValueError, "client 'a' has no columns"),
        ({"x": 3}, ValueError, "'x' is a single value"),
        ({"x": [[1], [2, 3]]}, ValueError, "'x' has rows of different shapes"),
        ([1, 2], TypeError, "client 'a': expected a mapping"),
        ({1: [1]}, TypeError, "column name 1: expected a string"),
    ],
)
def test_columns_are_checked(columns, error, message):
    with pytest.raises(error, match=message):
        ClientData(["a"], lambda client_id: columns)["a"]


def test_texts_become_objects():
    clients = ClientData.from_dict(
        {"a": {"s": ["to be", "or"], "b": [b"not\x00", b""], "f": np.array(["x"] * 2)}}
    )
    columns = clients["a"]
    assert {name: column.dtype for name, column in columns.items()} == dict.fromkeys(
        "sbf", np.dtype(object)
    )
    assert columns["b"].tolist() == [b"not\x00", b""]
    assert columns["f"].tolist() == ["x", "x"]


def test_map_is_lazy_and_its_result_is_kept():
    calls = []

    def double(columns):
        calls.append(1)
        return {"x": columns["x"] * 2}

    doubled = two_clients().map(double)
    assert calls == []
    np.testing.assert_array_equal(doubled["ann"]["x"], [[10.0, 12.0]])
    assert doubled["ann"]["x"] is doubled["ann"]["x"]
    assert len(calls) == 1
    assert doubled.client_ids == ("bob", "ann")


def test_select_keeps_the_order_asked_for():
    chosen = two_clients().select(["ann", "bob"])
    assert chosen.client_ids == ("ann", "bob")
    np.testing.assert_array_equal(chosen["ann"]["y"], [1])
    with pytest.raises(KeyError, match="'eve'"):
        two_clients().select(["ann", "eve"])
    with pytest.raises(KeyError):
        two_clients().select(["ann"])["bob"]


def letters(names: str) -> ClientData:
    return ClientData.from_dict({name: {"x": [ord(name)]} for name in names})


def test_split_clients_is_a_pure_function_of_ids_and_seed():
    kept, held_out = letters("abcdefghij").split_clients(0.3, seed=5)
    assert len(held_out) == 3
    assert sorted([*kept, *held_out]) == list("abcdefghij")
    assert list(kept) == sorted(kept) and list(held_out) == sorted(held_out)
    assert set(letters("jihgfedcba").split_clients(0.3, seed=5)[1]) == set(held_out)
    splits = {
        letters("abcdefghij").split_clients(0.3, seed=seed)[1].client_ids for seed in range(5)
    }
    assert len(splits) > 1
    # By hand, with sha256sum: the three lowest are 04b9... of "5/a", 1e8f... of "5/c"
    # and 3c48... of "5/j".
    assert held_out.client_ids == ("a", "c", "j")


def test_split_clients_leaves_nobody_without_clients():
    assert [len(part) for part in letters("ab").split_clients(0.01, seed=0)] == [1, 1]
    assert [len(part) for part in letters("ab").split_clients(0.99, seed=0)] == [1, 1]
    for fraction in (0, 1, -0.1, 1.5):
        with pytest.raises(
            ValueError, match=f"fraction={fraction}: expected a number above 0 and below 1"
        ):
            letters("ab").split_clients(fraction, seed=0)
    with pytest.raises(ValueError, match="at least two"):
        letters("a").split_clients(0.5, seed=0)


def test_to_arrays_puts_clients_one_after_the_other():
    arrays = two_clients().to_arrays()
    np.testing.assert_array_equal(arrays["x"], [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(arrays["y"], [0, 1, 1])
    np.testing.assert_array_equal(two_clients().to_arrays(["ann", "bob"])["y"], [1, 0, 1])
    with pytest.raises(ValueError, match="client_ids is empty"):
        two_clients().to_arrays([])


def test_to_arrays_names_the_client_that_differs():
    clients = ClientData.from_dict({"a": {"x": np.zeros([1, 2])}, "b": {"x": np.zeros([1, 3])}})
    with pytest.raises(
        ValueError, match=r"client 'b' has rows {x: float64 \[3\]}, but client 'a' has"
    ):
        clients.to_arrays()


def test_keras_batch():
    assert columns_lib.keras_batch({"x": 1}) == (1,)
    assert columns_lib.keras_batch({"y": 2, "x": 1}) == (1, 2)
    assert columns_lib.keras_batch({"sample_weight": 3, "x": 1, "y": 2, "row": 9}) == (1, 2, 3)
    assert columns_lib.keras_batch({"a": 1, "b": 2, "y": 3}) == ({"a": 1, "b": 2}, 3)
    with pytest.raises(ValueError, match="expected an input"):
        columns_lib.keras_batch({"y": 1})
    with pytest.raises(ValueError, match="expected targets beside 'sample_weight'"):
        columns_lib.keras_batch({"x": 1, "sample_weight": 1})


def test_to_dataset_keeps_the_partial_batch_by_default():
    batches = list(two_clients().to_dataset(batch_size=2).as_numpy_iterator())
    np.testing.assert_array_equal(batches[0][0], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(batches[1][0], [[5, 6]])
    np.testing.assert_array_equal(batches[1][1], [1])
    assert batches[0][0].dtype == np.float32
    assert len(list(two_clients().to_dataset(batch_size=2, drop_remainder=True))) == 1
    assert len(list(two_clients().to_dataset(client_ids=["bob"]))) == 2
    with pytest.raises(ValueError, match="batch_size=0: expected an integer of at least 1"):
        two_clients().to_dataset(batch_size=0)


def test_keras_evaluates_with_the_sample_weights():
    import tensorflow as tf

    clients = ClientData.from_dict(
        {
            "a": {"x": [[1.0], [1.0]], "y": [[3.0], [100.0]], "sample_weight": [1.0, 0.0]},
            "b": {"x": [[2.0]], "y": [[2.0]], "sample_weight": [3.0]},
        }
    )
    model = tf.keras.Sequential(
        [tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=[1])]
    )
    model.compile(loss="mse", weighted_metrics=["mae"])
    loss, mean_error = model.evaluate(clients.to_dataset(batch_size=3), verbose=0)
    assert loss == pytest.approx(((3 - 1) ** 2 * 1 + 0 + 0) / 3)  # Keras divides by the batch
    assert mean_error == pytest.approx(2 * 1 / 4)


def test_from_dataset_takes_dicts_tuples_and_tensors():
    import tensorflow as tf

    slices = tf.data.Dataset.from_tensor_slices
    clients = ClientData.from_dataset(
        {
            "dict": slices({"s": [b"a", b"bc"]}),
            "pair": slices((np.zeros([2, 3], np.float32), np.array([1, 2], np.uint8))),
            "triple": slices(({"a": [1], "b": [2]}, [3], [0.5])),
            "tensor": tf.data.Dataset.range(3),
            "one": slices(([1.5],)),
            "empty": slices((np.zeros([0, 4], np.float32),)),
        }
    )
    assert clients["dict"]["s"].tolist() == [b"a", b"bc"]
    assert clients["dict"]["s"].dtype == object
    assert clients["pair"]["x"].shape == (2, 3) and clients["pair"]["y"].dtype == np.uint8
    assert {name: column.tolist() for name, column in clients["triple"].items()} == {
        "a": [1],
        "b": [2],
        "y": [3],
        "sample_weight": [0.5],
    }
    assert clients["tensor"]["x"].tolist() == [0, 1, 2]
    assert list(clients["one"]) == ["x"]
    assert clients["empty"]["x"].shape == (0, 4) and clients["empty"]["x"].dtype == np.float32


def test_from_dataset_takes_a_function():
    import tensorflow as tf

    clients = ClientData.from_dataset(
        lambda client_id: tf.data.Dataset.range(int(client_id)), client_ids=["2", "3"]
    )
    assert clients["3"]["x"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="client_ids=None: expected the client ids"):
        ClientData.from_dataset(lambda client_id: tf.data.Dataset.range(1))
    with pytest.raises(TypeError, match="datasets: expected a mapping or a function"):
        ClientData.from_dataset(tf.data.Dataset.range(1))


def test_from_dataset_says_what_it_cannot_read():
    import tensorflow as tf

    numbers = tf.data.Dataset.range(3)
    clients = ClientData.from_dataset(
        {
            "batched": numbers.batch(2),
            "endless": numbers.repeat(),
            "nested": numbers.map(lambda n: {"a": {"b": n}}),
            "clash": numbers.map(lambda n: ({"y": n}, n)),
            "ragged": tf.data.Dataset.from_tensors(tf.ragged.constant([[1], [2, 3]])),
        }
    )
    for client_id, message in {
        "batched": "call unbatch",
        "endless": "expected a finite one",
        "nested": "expected a dict of tensors",
        "clash": "reserved",
        "ragged": "dense tensors",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            clients[client_id]
        assert f"client '{client_id}'" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_round_trip_through_tff_keeps_everything():
    tff = pytest.importorskip("tensorflow_federated")
    rng = np.random.default_rng(0)

    def client(rows):
        return {
            "x": rng.normal(size=[rows, 3, 2]).astype(np.float32),
            "y": rng.integers(0, 9, [rows]),
            "sample_weight": rng.random([rows]),
            "flag": rng.random([rows]) < 0.5,
            "byte": rng.integers(0, 255, [rows, 0]).astype(np.uint8),
            "words": np.array([b"to\x00", b"be", b""] * rows, object)[:rows],
        }

    clients = ClientData.from_dict(
        {name: client(rows) for name, rows in (("zoe", 4), ("ann", 1), ("bob", 7))}
    )
    theirs = clients.to_tff()
    assert isinstance(theirs, tff.simulation.datasets.ClientData)
    back = ClientData.from_tff(theirs)
    assert back.client_ids == clients.client_ids
    for client_id in clients:
        assert list(back[client_id]) == list(clients[client_id])
        for name, column in clients[client_id].items():
            assert back[client_id][name].dtype == column.dtype
            assert back[client_id][name].shape == column.shape
            np.testing.assert_array_equal(back[client_id][name], column)


def test_tffs_own_methods_work_on_what_to_tff_gives():
    pytest.importorskip("tensorflow_federated")
    import tensorflow as tf

    theirs = two_clients().to_tff()
    batched = theirs.preprocess(lambda dataset: dataset.map(lambda row: (row["x"], row["y"])))
    back = ClientData.from_tff(batched)
    np.testing.assert_array_equal(back["bob"]["x"], TWO["bob"]["x"])
    assert list(back["bob"]) == ["x", "y"]
    rows = theirs.serializable_dataset_fn(tf.constant("ann"))
    np.testing.assert_array_equal([row["x"] for row in rows.as_numpy_iterator()], TWO["ann"]["x"])
    assert len(list(theirs.create_tf_dataset_from_all_clients(seed=0))) == 3


def test_from_tff_reads_tffs_test_data_and_refuses_others():
    tff = pytest.importorskip("tensorflow_federated")
    theirs = tff.simulation.datasets.TestClientData(
        {"b": ([[1.0]], [1]), "a": ([[2.0], [3.0]], [0, 1])}
    )
    clients = ClientData.from_tff(theirs)
    assert clients.client_ids == ("b", "a")
    assert clients["a"]["x"].tolist() == [[2.0], [3.0]] and clients["a"]["y"].tolist() == [0, 1]
    with pytest.raises(
        TypeError, match="expected a tff.simulation.datasets.ClientData .*, got dict"
    ):
        ClientData.from_tff({})


def test_importing_needs_no_tensorflow():
    program = (
        "import sys, fedlab; before = 'tensorflow' in sys.modules\n"
        "import fedlab.clients.client_data, fedlab.tasks.generation.text, fedlab.datasets\n"
        "fedlab.datasets.shakespeare.synthetic(num_clients=2)[0].to_arrays()\n"
        "sys.exit(not before and 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
