"""FedAvg's numbers, worked out by hand and in closed form."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl

keras = tf.keras


def linear_model(start, learning_rate, **options):
    """y = w * x with loss (y - w x)^2 and one weight."""
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(learning_rate, **options), loss="mse")
    model.set_weights([np.array([[start]], np.float32)])
    return model


def points(**clients):
    """Clients whose examples all have x = 1 and the y given."""
    return fl.ClientData.from_dict(
        {
            name: {"x": np.ones([len(y), 1], np.float32), "y": np.array(y, np.float32)[:, None]}
            for name, y in clients.items()
        }
    )


def weight(run):
    return float(run.model.get_weights()[0][0, 0])


def simulate(model, clients, algorithm=None, rounds=1, **options):
    options = {"batch_size": 100, "progress": False, "num_workers": 1, **options}
    return fl.simulate(
        model, clients, algorithm, rounds=rounds, cohort=list(clients.client_ids), **options
    )


def test_two_clients_by_hand():
    # One step from w = 0 at rate 0.1: gradient -2 y. a: w = 0.2 * 1; b: w = 0.2 * 4, with twice
    # the examples.
    clients = points(a=[1.0], b=[4.0, 4.0])
    assert weight(simulate(linear_model(0.0, 0.1), clients)) == pytest.approx(
        (0.2 + 2 * 0.8) / 3, rel=1e-6
    )
    uniform = fl.algorithms.fed_avg(client_weighting="uniform")
    assert weight(simulate(linear_model(0.0, 0.1), clients, uniform)) == pytest.approx(
        (0.2 + 0.8) / 2, rel=1e-6
    )
    # Two local epochs of client a alone: .2, then .2 + .1 * 2 * .8 = .36.
    assert weight(
        simulate(linear_model(0.0, 0.1), points(a=[1.0]), local_epochs=2)
    ) == pytest.approx(0.36, rel=1e-6)


def test_server_rate_and_momentum_by_hand():
    # Round 1: delta = 0 - .2, m = -.2, w = .5 * .2 = .1.
    # Round 2: the client goes to 0.1 + 0.2 * 0.9 = 0.28, delta = -0.18, m = -0.1 - 0.18,
    # w = 0.1 + 0.5 * 0.28 = 0.24.
    algorithm = fl.algorithms.fed_avg(server_learning_rate=0.5, server_momentum=0.5)
    run = simulate(linear_model(0.0, 0.1), points(a=[1.0]), algorithm, rounds=2)
    assert weight(run) == pytest.approx(0.24, rel=1e-6)


def test_client_momentum_is_reset_every_round():
    # Each round one step of momentum SGD from a zero slot is plain SGD.
    first = simulate(linear_model(0.0, 0.1, momentum=0.9), points(a=[1.0]), rounds=3)
    second = simulate(linear_model(0.0, 0.1), points(a=[1.0]), rounds=3)
    assert weight(first) == pytest.approx(weight(second), rel=1e-6)


def test_fixed_point_on_quadratics():
    """F_i(w) = 1/2 (w - e_i)^2, tau_i steps at rate eta.

    The fixed point is sum p_i c_i e_i / sum p_i c_i with c_i = 1 - (1 - eta)^tau_i.
    """
    eta, goals, steps, sizes = 0.1, [1.0, 5.0, -3.0], [1, 4, 2], [1, 1, 1]
    # Mean squared error is (w - e)^2, so the rate is halved; tau_i steps are tau_i batches of
    # one example.
    clients = points(**{f"c{i}": [goal] * tau for i, (goal, tau) in enumerate(zip(goals, steps))})
    algorithm = fl.algorithms.fed_avg(client_weighting="uniform")
    run = simulate(linear_model(0.0, eta / 2), clients, algorithm, rounds=150, batch_size=1)
    factors = [p * (1 - (1 - eta) ** tau) for p, tau in zip(sizes, steps)]
    assert weight(run) == pytest.approx(np.dot(factors, goals) / np.sum(factors), rel=1e-5)


def test_one_full_batch_step_of_all_clients_is_gradient_descent():
    rng = np.random.default_rng(0)
    columns = {
        f"c{n}": {"x": rng.normal(size=[n, 4]), "y": rng.integers(3, size=n)} for n in (3, 8, 5)
    }
    clients = fl.ClientData.from_dict(
        {c: {"x": v["x"].astype(np.float32), "y": v["y"]} for c, v in columns.items()}
    )
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    model.compile(
        keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    central = fl.models.clone(model)
    run = simulate(model, clients, rounds=5)
    everything = clients.to_arrays()
    for _ in range(5):
        central.train_on_batch(everything["x"], everything["y"])
    for ours, expected in zip(run.model.get_weights(), central.get_weights()):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"client_weighting": "examples"}, "expected 'num_examples', 'num_tokens', 'uniform'"),
        ({"server_learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"server_learning_rate": float("nan")}, "learning_rate=nan"),
        ({"server_momentum": 1.0}, "momentum=1.0"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        fl.algorithms.fed_avg(**options)
