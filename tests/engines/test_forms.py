"""Clients whose columns differ in dtype or row length train as they would in plain Keras."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.clients import Batching, ClientData
from fedlab.engines.rounds import block_size

layers = tf.keras.layers
SMALL, LARGE = [10, 20, 30], [200, 250, 300]


def embedding_model():
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([layers.Input([None]), layers.Embedding(301, 1), layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.001), "mse")
    return model


def recurrent_model(kind=layers.LSTM):
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            layers.Input([None]),
            layers.Embedding(9, 2),
            kind(3, return_sequences=True),
            layers.Dense(1),
        ]
    )
    model.compile(tf.keras.optimizers.SGD(0.1), "mse", weighted_metrics=["mae"])
    return model


def of_positions(y, sample_weight):
    """Weights of rows as weights of their positions: Keras 3 does not add the axis itself."""
    return sample_weight if sample_weight is None or len(y.shape) < 3 else sample_weight[:, None]


def averaged(build, clients, batch_size):
    """A round of federated averaging in which Keras's `fit` trains each client."""
    weights, counts = {}, {}
    for client_id in clients:
        columns = clients[client_id]
        alike = tuple(
            column.tobytes() for column in columns.values()
        )  # clients with the same data train alike
        counts[alike] = counts.get(alike, 0) + len(columns["x"])
        if alike in weights:
            continue
        model = build()
        model.run_eagerly = True  # tracing each of these small models would take longer
        model.fit(
            columns["x"],
            columns["y"],
            sample_weight=of_positions(columns["y"], columns.get("sample_weight")),
            batch_size=batch_size,
            shuffle=False,
            verbose=0,
        )
        weights[alike] = model.get_weights()
    return [
        np.average(np.stack(values), axis=0, weights=list(counts.values()))
        for values in zip(*weights.values())
    ]


def integers(num_clients, dtypes):
    """Clients with small numbers, and clients with numbers that an int8 does not hold."""
    return ClientData.from_dict(
        {
            f"c{i}": {
                name: np.array([LARGE if i % 2 else SMALL], dtypes[i % 2]).reshape(1, 3)
                for name in ("x", "y")
            }
            for i in range(num_clients)
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_clients", [31, pytest.param(32, marks=pytest.mark.slow), 64])
def test_integers_of_different_dtypes_in_cohorts_of_any_size(num_clients):
    clients = integers(num_clients, (np.int8, np.int16))
    run = fl.simulate(
        embedding_model(),
        clients,
        rounds=1,
        clients_per_round=num_clients,
        evaluate_on=clients,
        progress=False,
    )
    for value, expected in zip(run.model.get_weights(), averaged(embedding_model, clients, 8)):
        np.testing.assert_allclose(value, expected, atol=1e-5, rtol=1e-4)
    plain = embedding_model().evaluate(clients.to_dataset(64), verbose=0)
    assert run.history[0]["test_loss"] == pytest.approx(plain, rel=1e-5)
    assert plain == pytest.approx(
        np.mean(
            np.square([SMALL] * (num_clients - num_clients // 2) + [LARGE] * (num_clients // 2))
        ),
        rel=1e-2,
    )


@pytest.mark.parametrize(
    "dtypes, expected",
    [
        ((np.int8, np.int16), np.int16),
        ((np.uint8, np.int8), np.int16),
        ((np.uint32, np.int64), np.int64),
        ((np.float32, np.float64), np.float64),
        ((np.float16, ml_dtypes.bfloat16), np.float32),
        ((ml_dtypes.bfloat16, np.float64), np.float64),
        ((np.bool_, np.bool_), np.bool_),
        ((">f4", "<f4"), np.float32),
    ],
)
def test_one_dtype_for_all_clients(dtypes, expected):
    columns = [{"x": np.array([[0], [1]]).astype(dtype)} for dtype in dtypes]
    for first, second in (columns, columns[::-1]):
        clients = ClientData.from_dict({"empty": {"x": []}, "a": first, "b": second})
        assert clients.schema["x"] == (np.dtype(expected), (1,))
        assert (
            clients.to_arrays()["x"].dtype == expected
            and clients.to_arrays(["a"])["x"].dtype == expected
        )
        assert clients.in_schema("a")["x"].dtype == expected
        assert (
            clients.in_schema("empty")["x"].shape == (0, 1)
            and clients.in_schema("empty")["x"].dtype == expected
        )
        assert clients.to_dataset().element_spec[0].dtype == tf.as_dtype(expected)


@pytest.mark.parametrize(
    "first, second, message",
    [
        (
            [[1]],
            [[1.5]],
            "client 'b' has column 'x' of float64 .* but client 'a' of int64 .* expected one kind "
            "of values",
        ),
        ([["a"]], [[1]], "client 'b' has column 'x' of int64 .* but client 'a' of strings"),
        ([[True]], [[1]], "of int64 .* of bool"),
        (
            np.uint64([[1]]),
            np.int64([[1]]),
            "client 'b' .* int64 .* uint64 .* expected a dtype that represents the values of both",
        ),
        (
            [[1]],
            [1],
            r"rows of shape \[\], but client 'a' .* rows of shape \[1\]: expected as many "
            "dimensions",
        ),
    ],
)
def test_clients_that_do_not_go_together_are_named_before_the_first_round(first, second, message):
    clients = ClientData.from_dict({"a": {"x": first, "y": [1.0]}, "b": {"x": second, "y": [1.0]}})
    with pytest.raises(ValueError, match=message) as error:
        fl.simulate(embedding_model(), clients, rounds=1, cohort=["a"], progress=False)
    assert "\n" not in str(error.value) and "map" in str(error.value)
    with pytest.raises(ValueError, match=message):
        clients.to_arrays()


def test_a_column_that_some_clients_lack():
    weighted = {"x": [[1]], "y": [[1.0]], "sample_weight": [1.0]}
    clients = ClientData.from_dict({"a": weighted, "b": {name: weighted[name] for name in "xy"}})
    with pytest.raises(
        ValueError,
        match="client 'b' has the columns 'x', 'y', but client 'a' has 'x', 'y', 'sample_weight'",
    ):
        fl.simulate(embedding_model(), clients, rounds=1, cohort=["a"], progress=False)


def test_a_client_that_is_loaded_later_and_does_not_fit_is_named(monkeypatch):
    monkeypatch.setattr("fedlab.clients.client_data.SAMPLED_CLIENTS", 1)
    data = {
        "a": np.int8([1]),
        "later": np.int16([300]),
        "fits": np.uint8([1]),
        "smaller": np.int8([2]),
    }
    clients = ClientData(data, lambda client_id: {"x": data[client_id]})
    assert clients.in_schema("smaller")["x"].dtype == np.int8
    for client_id in ("later", "fits"):  # uint8 does not fit into int8
        with pytest.raises(
            ValueError,
            match=f"client '{client_id}' has column 'x' of u?int.* expected values that fit into "
            "int8",
        ):
            clients.in_schema(client_id)


def sequences(num_clients, lengths, rows=4):
    """Clients with sequences of different lengths and with weights of different dtypes."""
    data = {}
    for i in range(num_clients):
        rng = np.random.default_rng(i % 6)  # six different clients
        length = lengths[i % len(lengths)]
        data[f"c{i}"] = {
            "x": rng.integers(0, 9, [rows - i % 2, length]).astype([np.int32, np.int64][i % 2]),
            "y": rng.normal(size=[rows - i % 2, length, 1]).astype([np.float64, np.float32][i % 2]),
            "sample_weight": rng.random([rows - i % 2]).astype([np.float32, np.float64][i % 2]),
        }
    return ClientData.from_dict(data)


@pytest.mark.slow
def test_sequences_of_different_lengths_in_one_block():
    clients = sequences(33, (4, 5, 1))
    options = dict(rounds=1, clients_per_round=33, batch_size=2, shuffle=False, progress=False)
    run = fl.simulate(recurrent_model(), clients, **options)
    for value, expected in zip(run.model.get_weights(), averaged(recurrent_model, clients, 2)):
        np.testing.assert_allclose(value, expected, atol=2e-6)


@pytest.mark.slow
def test_sequences_of_different_lengths_trained_and_evaluated():
    """As plain Keras does it with each client by itself."""
    clients = sequences(3, (4, 5, 4))
    build = lambda: recurrent_model(layers.GRU)  # noqa: E731
    sets = {"all": clients, "each": fl.per_client(clients, clients)}
    run = fl.simulate(
        build(),
        clients,
        evaluate_on=sets,
        rounds=1,
        clients_per_round=3,
        batch_size=8,
        progress=False,
    )
    for value, expected in zip(run.model.get_weights(), averaged(build, clients, 8)):
        np.testing.assert_allclose(value, expected, atol=2e-6)
    run.model.run_eagerly = True

    def dataset(batch_size, ids):
        batches = clients.to_dataset(batch_size, ids)
        return batches.map(lambda x, y, weight: (x, y, of_positions(y, weight)))

    long, short = (
        run.model.evaluate(dataset(64, ids), verbose=0)[0] for ids in (["c1"], ["c0", "c2"])
    )
    assert run.history[-1]["all_loss"] == pytest.approx(
        (3 * long + 8 * short) / 11, rel=1e-5
    )  # batches of one length
    rows = {
        (row["client_id"], row["metric"]): row["value"]
        for row in run.evaluations
        if row["round"] == 1
    }
    for client_id in clients:
        loss, mae = run.model.evaluate(dataset(64, [client_id]), verbose=0)
        assert (rows[client_id, "loss"], rows[client_id, "mae"]) == pytest.approx(
            (loss, mae), rel=1e-5
        )
        tuned = recurrent_model(layers.GRU)
        tuned.run_eagerly = True
        tuned.set_weights(run.model.get_weights())
        tuned.fit(dataset(8, [client_id]), verbose=0)
        expected = tuned.evaluate(dataset(64, [client_id]), verbose=0)[0]
        assert rows[client_id, "personal_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_one_graph_serves_all_lengths():
    traced = []
    model_fn = recurrent_model

    class Counting(tf.keras.losses.MeanSquaredError):
        def call(self, y_true, y_pred):
            traced.append(1) if not tf.executing_eagerly() else None
            return super().call(y_true, y_pred)

    def build():
        model = model_fn()
        model.compile(tf.keras.optimizers.SGD(0.1), Counting())
        return model

    def traces(lengths):
        traced.clear()
        fl.simulate(
            build,
            sequences(6, lengths),
            rounds=1,
            clients_per_round=6,
            num_workers=1,
            progress=False,
        )
        return len(traced)

    assert traces((4,)) == traces((4, 5, 6, 7, 8, 9)) > 0
    assert block_size(6) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [pytest.param(fl.algorithms.fed_avg, marks=pytest.mark.slow), fl.algorithms.mime]
)
def test_rows_that_differ_in_two_dimensions_and_survey(make):
    """Images of different sizes; Mime reads the data twice."""
    rng = np.random.default_rng(0)
    data = {
        f"c{i}": {
            "x": rng.normal(size=[3, 3 + i % 2, 2 + i % 3, 2]).astype(np.float32),
            "y": rng.normal(size=[3, 1]).astype(np.float32),
        }
        for i in range(33)
    }

    def build():
        tf.keras.utils.set_random_seed(0)
        model = tf.keras.Sequential(
            [layers.Input([None, None, 2]), layers.GlobalAveragePooling2D(), layers.Dense(1)]
        )
        model.compile(tf.keras.optimizers.SGD(0.1), "mse")
        return model

    clients = ClientData.from_dict(data)
    pooled = clients.map(
        lambda columns: {"x": columns["x"].mean(axis=(1, 2), keepdims=True), "y": columns["y"]}
    )
    runs = [
        fl.simulate(build(), each, make(), rounds=2, clients_per_round=33, progress=False)
        for each in (clients, pooled)
    ]
    for value, expected in zip(*(run.model.get_weights() for run in runs)):
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_tff_gives_the_same():
    pytest.importorskip("tensorflow_federated")
    clients = sequences(3, (4, 5))
    runs = [
        fl.simulate(
            recurrent_model(), clients, engine=e, rounds=2, clients_per_round=3, progress=False
        )
        for e in ("local", "tff")
    ]
    for value, expected in zip(*(run.model.get_weights() for run in runs)):
        np.testing.assert_allclose(value, expected, atol=1e-5)
    mixed = integers(2, (np.int8, np.int16)).to_tff()
    assert mixed.element_type_structure["y"] == tf.TensorSpec([3], tf.int16)
    assert ClientData.from_tff(mixed)["c0"]["y"].tolist() == [SMALL]
    assert clients.to_tff().element_type_structure["x"] == tf.TensorSpec([None], tf.int64)


@pytest.mark.slow
def test_empty_clients_train_next_to_others():
    clients = ClientData.from_dict(
        {
            "none": {"x": [], "y": []},
            **{i: integers(2, (np.int8, np.int16))[i] for i in ("c0", "c1")},
        }
    )
    run = fl.simulate(
        embedding_model(),
        clients,
        rounds=1,
        clients_per_round=3,
        evaluate_on=clients,
        progress=False,
    )
    assert [
        row["num_examples"] for row in sorted(run.clients, key=lambda row: row["client_id"])
    ] == [1, 1, 0]
    for value, expected in zip(
        run.model.get_weights(), averaged(embedding_model, clients.select(["c0", "c1"]), 8)
    ):
        np.testing.assert_allclose(value, expected, atol=1e-5, rtol=1e-4)


def test_memory_does_not_grow_with_the_epochs():
    """Of a client's examples there is one copy, not one for each epoch."""
    import tracemalloc

    from fedlab.engines import batches, blocks

    columns = {"x": np.zeros([1000, 250], np.float32), "y": np.zeros([1000], np.int32)}  # 1 MB
    tracemalloc.start()
    part = batches.make_batches(
        columns, Batching(batch_size=10, epochs=80), np.random.default_rng(0)
    )
    packed = blocks.pack(columns)
    blocks.make_block([part, part], [packed, packed])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6
