"""Models that clients make their own: FedRecon, and fine-tuning at evaluation."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import algorithms, optimizers
from fedlab.learner import clone
from tests.quadratics import linear_model, regressions
from tests.stacks import float64_loss

keras = tf.keras
layers = keras.layers


def model_with_offset(rate=0.125, start=(0.5, -0.25)):
    """features'w + offset, the offset in a layer of its own, in float64."""
    features, one = (
        keras.Input([2], name="features", dtype="float64"),
        keras.Input([1], name="one", dtype="float64"),
    )
    shared = layers.Dense(1, use_bias=False, dtype="float64", name="shared")(features)
    own = layers.Dense(1, use_bias=False, dtype="float64", name="own")(one)
    model = keras.Model(
        {"features": features, "one": one}, layers.Add(dtype="float64")([shared, own])
    )
    model.compile(keras.optimizers.SGD(rate), float64_loss(keras.losses.MeanSquaredError))
    model.get_layer("shared").set_weights([np.full([2, 1], start[0])])
    model.get_layer("own").set_weights([np.full([1, 1], start[1])])
    return model


def clients_with_offsets(offsets, num_examples, seed=0):
    """y = features'(1, -2) + offset, without noise."""
    rng, clients = np.random.default_rng(seed), {}
    for i, offset in enumerate(offsets):
        features = rng.normal(size=[num_examples, 2])
        y = features @ np.array([[1.0], [-2.0]]) + offset
        clients[f"c{i}"] = {"features": features, "one": np.ones([num_examples, 1]), "y": y}
    return fl.ClientData.from_dict(clients)


def weights_of(model):
    return model.get_layer("shared").get_weights()[0][:, 0], float(
        model.get_layer("own").get_weights()[0][0, 0]
    )


def test_fed_recon_round_by_round():
    """Algorithm 1 in NumPy: two steps reconstruct the offset, three train the shared weights."""
    clients, rates = clients_with_offsets([3.0, -1.0], 5), (0.25, 0.125)
    algorithm = algorithms.fed_recon(
        ["own"],
        reconstruction_share=0.4,
        reconstruction_optimizer=optimizers.sgd(rates[0]),
        server_learning_rate=0.5,
    )
    options = dict(
        rounds=3, cohort=["c0", "c1"], batch_size=1, shuffle=False, num_workers=1, progress=False
    )
    run = fl.simulate(model_with_offset(rates[1]), clients, algorithm, **options)
    w = np.full(2, 0.5)
    for _ in range(3):
        ends, losses = [], []
        for client_id in ("c0", "c1"):
            columns, own_w, offset = clients[client_id], w, -0.25
            for i, (x, y) in enumerate(zip(columns["features"], columns["y"][:, 0])):
                error = x @ own_w + offset - y
                if i < 2:
                    offset = offset - rates[0] * 2 * error
                else:
                    losses.append(error**2)
                    own_w = own_w - rates[1] * 2 * error * x
            ends.append(own_w)
        w = w + 0.5 * (np.mean(ends, axis=0) - w)
    shared, own = weights_of(run.model)
    np.testing.assert_allclose(shared, w, rtol=1e-12)
    assert own == -0.25  # the server never changes it
    assert run.history[-1]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert [client["weight"] for client in run.clients[-2:]] == [
        3.0,
        3.0,
    ]  # the examples that trained


@pytest.mark.parametrize(
    "make",
    [
        fl.aggregators.mean,
        fl.aggregators.quantized,
        lambda: fl.aggregators.differentially_private(1.0, 2, 3, norm=1.0, sampling="uniform"),
    ],
    ids=["mean", "quantized", "private"],
)
def test_local_layers_are_neither_sent_nor_aggregated(make):
    """No noise reaches them, and their bytes are not counted."""
    run = fl.simulate(
        model_with_offset(),
        clients_with_offsets([3.0, -1.0, 2.0], 5),
        algorithms.fed_recon(["own"], client_weighting="uniform"),
        aggregator=make(),
        batch_size=1,
        rounds=1,
        clients_per_round=2,
        num_workers=1,
        progress=False,
    )
    shared, own = weights_of(run.model)
    assert own == -0.25 and not np.array_equal(shared, [0.5, 0.5])
    # The two weights of 8 bytes that are shared, for each of two clients.
    assert run.history[1]["bytes_down"] == run.history[1]["bytes_up"] == 2 * 2 * 8


@pytest.mark.slow
def test_fed_recon_finds_what_is_shared_where_fed_avg_does_not():
    offsets = [4.0, -4.0, 2.0, -1.0]
    train, test = clients_with_offsets(offsets, 16), clients_with_offsets(offsets, 8, seed=1)
    options = dict(
        rounds=40, cohort=list(train), batch_size=4, local_epochs=4, num_workers=1, progress=False
    )
    algorithm = algorithms.fed_recon(["own"], reconstruction_optimizer=optimizers.sgd(0.25))
    run = fl.simulate(
        model_with_offset(), train, algorithm, evaluate_on={"test": (train, test)}, **options
    )
    np.testing.assert_allclose(weights_of(run.model)[0], [1.0, -2.0], atol=5e-3)
    assert run.history[0]["test_loss"] > 1 and run.history[-1]["test_loss"] < 1e-2
    again = fl.evaluate_personalized(
        run.model, train, test, algorithm, batch_size=4, local_epochs=4, num_workers=2
    )
    assert again == {"loss": pytest.approx(run.history[-1]["test_loss"], rel=1e-6)}
    averaged = fl.simulate(
        model_with_offset(), train, algorithms.fed_avg(), evaluate_on=test, **options
    )
    assert averaged.history[-1]["test_loss"] > 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"local_layers": "own"}, "local_layers='own': expected a list"),
        ({"local_layers": []}, "a list of one or more names"),
        (
            {"local_layers": ["own"], "reconstruction_share": 1.0},
            "reconstruction_share=1.0: expected a number above 0 and below 1",
        ),
        (
            {"local_layers": ["own"], "client_weighting": "num_tokens"},
            "expected 'num_examples' or 'uniform' with fed_recon",
        ),
        (
            {"local_layers": ["users"]},
            "local_layers=\\['users'\\]: expected some, but not all, of the model's layers shared, "
            "own",
        ),
        ({"local_layers": ["own", "shared"]}, "some, but not all"),
    ],
)
def test_fed_recon_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        fl.simulate(
            model_with_offset(),
            clients_with_offsets([1.0], 4),
            algorithms.fed_recon(**arguments),
            rounds=1,
            clients_per_round=1,
        )


def test_fine_tuning_is_a_keras_loop_on_each_client():
    own, _, _ = regressions(num_clients=3)
    test, _, _ = regressions(num_clients=3, num_examples=5, seed=7)
    model = linear_model(3, keras.optimizers.SGD(0.0625, momentum=0.5), start=0.3)
    ours = fl.evaluate_personalized(model, own, test, batch_size=8, local_epochs=3)
    squares = []
    for client_id in own:
        copy = clone(model)
        copy.fit(own[client_id]["x"], own[client_id]["y"], batch_size=8, epochs=3, verbose=0)
        squares.append((copy.predict(test[client_id]["x"], verbose=0) - test[client_id]["y"]) ** 2)
    assert ours == {"loss": pytest.approx(np.mean(squares), rel=1e-6)}
    assert np.array_equal(model.get_weights()[0], np.full([3, 1], 0.3))  # it is not changed


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(algorithms.fed_sgd, marks=pytest.mark.slow),
        algorithms.scaffold,
        pytest.param(algorithms.mime, marks=pytest.mark.slow),
    ],
)
def test_fine_tuning_wraps_any_algorithm(make):
    own, _, _ = regressions(num_clients=3)
    options = dict(rounds=2, clients_per_round=2, progress=False, num_workers=1)
    run, plain = (
        fl.simulate(
            linear_model(3, keras.optimizers.SGD(0.0625)),
            own,
            algorithm,
            evaluate_on=evaluate_on,
            **options,
        )
        for algorithm, evaluate_on in (
            (algorithms.fine_tuning(make()), (own, own)),
            (make(), own),
        )
    )
    assert np.array_equal(run.model.get_weights()[0], plain.model.get_weights()[0])
    assert run.history[-1]["test_loss"] < plain.history[-1]["test_loss"]


def test_personal_evaluation_refuses():
    own, _, _ = regressions(num_clients=2)
    others = fl.ClientData.from_dict({"zoe": own["c0"]})
    model = linear_model(3, keras.optimizers.SGD(0.0625))
    with pytest.raises(
        ValueError,
        match="algorithm 'fed_avg' has no personalization: wrap it",
    ):
        fl.simulate(model, own, rounds=1, clients_per_round=1, evaluate_on=(own, own))
    with pytest.raises(
        ValueError, match="1 clients, such as \\['zoe'\\], have test examples but no local examples"
    ):
        fl.evaluate_personalized(model, own, others)
