"""Local Adam: one client is central training, and statistics are averaged as weights are."""

import numpy as np
import pytest
import tensorflow as tf

from fedlab import algorithms
from tests.quadratics import linear_model, points, regressions, simulate

OPTIMIZERS = {
    "adam": lambda: tf.keras.optimizers.Adam(0.125),
    "momentum": lambda: tf.keras.optimizers.SGD(0.0625, momentum=0.5),
    "adagrad": lambda: tf.keras.optimizers.Adagrad(0.125),
    "sgd": lambda: tf.keras.optimizers.SGD(0.0625),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["adam", "momentum", pytest.param("adagrad", marks=pytest.mark.slow), "sgd"]
)
def test_one_client_is_central_training_without_a_break(name):
    clients, _, _ = regressions(num_clients=1)
    found = simulate(
        linear_model(3, OPTIMIZERS[name]()),
        clients,
        algorithms.local_adam(),
        rounds=5,
        local_epochs=2,
    )
    model = linear_model(3, OPTIMIZERS[name]())
    model.run_eagerly = True  # quicker than tracing a small model
    model.fit(
        tf.data.Dataset.from_tensors((clients["c0"]["x"], clients["c0"]["y"])), epochs=10, verbose=0
    )  # arrays would become float32
    # Keras's bias correction rounds Adam's decays to float32 even for float64 weights:
    # 1 - 0.999 is off by 1.3e-5.
    np.testing.assert_allclose(
        found, model.get_weights()[0][:, 0], rtol=3e-5 if name == "adam" else 1e-9
    )
    if name in ("adam", "momentum", "adagrad"):  # whose statistics count
        anew = simulate(
            linear_model(3, OPTIMIZERS[name]()),
            clients,
            algorithms.fed_avg(),
            rounds=5,
            local_epochs=2,
        )
        assert np.abs(anew - found).max() > 1e-3


@pytest.mark.slow
def test_without_statistics_it_is_fed_avg():
    clients, _, _ = regressions()
    for rate in (1.0, 0.5):
        ours, expected = (
            simulate(
                linear_model(3, OPTIMIZERS["sgd"]()),
                clients,
                make(server_learning_rate=rate),
                rounds=3,
            )
            for make in (algorithms.local_adam, algorithms.fed_avg)
        )
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    "weighting, p", [("num_examples", np.array([1, 3]) / 4), ("uniform", np.ones(2) / 2)]
)
def test_two_clients_by_hand(weighting, p):
    """Momentum 1/2 at rate 1/8 on (w - goal)^2; per round, clients do one and three steps."""
    goals, steps, rate, server_rate = [1.0, -2.0], [1, 3], 0.125, 0.75
    w, m = 0.0, 0.0
    for _ in range(3):
        ends = []
        for goal, count in zip(goals, steps):
            own_w, own_m = w, m
            for _ in range(count):
                own_m = 0.5 * own_m - rate * 2 * (own_w - goal)
                own_w += own_m
            ends.append((own_w, own_m))
        mean_w, m = p @ np.array(ends)
        w += server_rate * (mean_w - w)
    optimizer = tf.keras.optimizers.SGD(rate, momentum=0.5)
    algorithm = algorithms.local_adam(client_weighting=weighting, server_learning_rate=server_rate)
    found = simulate(
        linear_model(1, optimizer), points(goals, steps), algorithm, rounds=3, batch_size=1
    )
    np.testing.assert_allclose(found, w, rtol=1e-9)
