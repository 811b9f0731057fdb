"""Every method on problems whose answer is known in closed form, in float64."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import algorithms, optimizers
from tests import quick
from tests.quadratics import linear_model, points, regressions, simulate

SGD = tf.keras.optimizers.SGD


# Rates are powers of two: Keras keeps them in float32.

# F_i(w) = 1/2 (w - e_i)^2, tau_i steps at rate eta. Keras's mean squared error is twice that:
# its rate is eta / 2.
ETA, GOALS, STEPS = 0.125, [1.0, 5.0, -3.0], [1, 4, 2]
P = np.array(STEPS) / np.sum(STEPS)  # one example a step
SHRUNK = 1 - (1 - ETA) ** np.array(STEPS)


def test_fed_avg_fixed_point():
    for weighting, p in (("uniform", np.ones(3)), ("num_examples", P)):
        algorithm = algorithms.fed_avg(client_weighting=weighting)
        found = simulate(
            linear_model(1, SGD(ETA / 2)), points(GOALS, STEPS), algorithm, rounds=100, batch_size=1
        )
        np.testing.assert_allclose(found, np.dot(p * SHRUNK, GOALS) / np.sum(p * SHRUNK), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "weighting, p",
    [("num_examples", P), pytest.param("uniform", np.ones(3) / 3, marks=pytest.mark.slow)],
)
def test_fed_nova_goes_to_the_weighted_mean(weighting, p):
    """The fixed point is sum p_i c_i / tau_i e_i / sum p_i c_i / tau_i.

    For eta -> 0 that is sum p_i e_i.
    """
    algorithm = algorithms.fed_nova(client_weighting=weighting)
    found = simulate(
        linear_model(1, SGD(ETA / 2)), points(GOALS, STEPS), algorithm, rounds=100, batch_size=1
    )
    factors = p * SHRUNK / STEPS
    np.testing.assert_allclose(found, np.dot(factors, GOALS) / factors.sum(), rtol=1e-9)

    eta = 2**-30  # the server's rate makes up for it: one round goes all the way
    algorithm = algorithms.fed_nova(
        client_weighting=weighting, server_learning_rate=1 / (eta * np.dot(p, STEPS))
    )
    found = simulate(
        linear_model(1, SGD(eta / 2)), points(GOALS, STEPS), algorithm, rounds=3, batch_size=1
    )
    np.testing.assert_allclose(found, np.dot(p, GOALS), rtol=1e-6)
    inconsistent = algorithms.fed_avg(
        client_weighting=weighting, server_learning_rate=1 / (eta * np.dot(p, STEPS))
    )
    found = simulate(
        linear_model(1, SGD(eta / 2)), points(GOALS, STEPS), inconsistent, rounds=100, batch_size=1
    )
    assert abs(found - np.dot(p, GOALS)) > 0.3


def test_fed_nova_counts_momentum_as_the_paper_does():
    """A round from w = 0 with momentum rho, in loops.

    a_k is the sum of the weights with which gradients go into the update.
    """
    rho = 0.9
    found = simulate(
        linear_model(1, SGD(2**-7, momentum=rho)),
        points(GOALS, STEPS),
        algorithms.fed_nova(),
        rounds=1,
        batch_size=1,
    )
    deltas, lengths = [], []
    for goal, steps in zip(GOALS, STEPS):
        w, m, weights = 0.0, 0.0, np.zeros(steps)
        for j in range(steps):
            m, w = rho * m + 2 * (w - goal), w - 2**-7 * (rho * m + 2 * (w - goal))
            weights[: j + 1] += rho ** np.arange(j, -1, -1)
        deltas.append(-w)
        lengths.append(weights.sum())
    expected = -np.dot(P, lengths) * np.dot(P, np.divide(deltas, lengths))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [tf.keras.optimizers.Adam(0.1), SGD(0.1, momentum=0.9, nesterov=True), SGD(0.1, clipnorm=1.0)],
)
def test_fed_nova_refuses_what_it_cannot_normalize(optimizer):
    with pytest.raises(
        ValueError,
        match=r"expected SGD\(learning_rate, momentum\) without further options",
    ):
        simulate(linear_model(1, optimizer), points(GOALS, STEPS), algorithms.fed_nova(), rounds=1)


def gradient_descent(weights, a, b, rate, steps):
    for _ in range(steps):
        weights = weights - rate * (a @ weights - b)
    return weights


@pytest.mark.slow
def test_fed_sgd_is_gradient_descent():
    clients, a, b = regressions()
    found = simulate(linear_model(3, SGD(0.125)), clients, algorithms.fed_sgd(), rounds=10)
    np.testing.assert_allclose(
        found, gradient_descent(np.zeros([3, 1]), a.mean(0), b.mean(0), 0.125, 10)[:, 0], rtol=1e-12
    )
    # Batches and epochs change nothing: clients take no steps. Nor does which optimizer it is.
    again = simulate(
        linear_model(3, SGD(0.125)),
        clients,
        algorithms.fed_sgd(),
        rounds=10,
        batch_size=3,
        local_epochs=2,
    )
    np.testing.assert_allclose(again, found, rtol=1e-12)
    model = linear_model(3, tf.keras.optimizers.Adam(0.1))
    found = simulate(model, clients, algorithms.fed_sgd(), rounds=5)
    everything = clients.to_arrays()
    for _ in range(5):
        model.train_on_batch(everything["x"], everything["y"])
    np.testing.assert_allclose(
        found, model.get_weights()[0][:, 0], rtol=1e-5
    )  # Keras rounds powers of beta to float32


def test_one_full_batch_step_of_fed_avg_is_gradient_descent():
    clients, a, b = regressions()
    found = simulate(linear_model(3, SGD(0.125)), clients, algorithms.fed_avg(), rounds=10)
    np.testing.assert_allclose(
        found, gradient_descent(np.zeros([3, 1]), a.mean(0), b.mean(0), 0.125, 10)[:, 0], rtol=1e-12
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_fed_avg_of_one_client_is_centralized_training(nesterov):
    clients, _, _ = regressions(num_clients=1)
    model = linear_model(3, SGD(0.0625, momentum=0.875, nesterov=nesterov))
    found = simulate(
        model, clients, algorithms.fed_avg(), rounds=1, batch_size=3, local_epochs=5, shuffle=False
    )
    batches = tf.data.Dataset.from_tensor_slices((clients["c0"]["x"], clients["c0"]["y"])).batch(
        3
    )  # Keras makes arrays float32
    model.fit(batches, epochs=5, shuffle=False, verbose=0)
    np.testing.assert_allclose(found, model.get_weights()[0][:, 0], rtol=1e-12)


def float32_weights(algorithm):
    rng = np.random.default_rng(0)
    clients = {
        f"c{n}": {"x": rng.normal(size=[n, 7]).astype(np.float32), "y": rng.integers(3, size=n)}
        for n in (9, 4, 14, 6)
    }
    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.Input([7]), tf.keras.layers.Dense(20, "tanh"), tf.keras.layers.Dense(3)]
    model = tf.keras.Sequential(layers)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(SGD(0.1), loss)
    run = fl.simulate(
        model,
        fl.ClientData.from_dict(clients),
        algorithm,
        rounds=3,
        clients_per_round=3,
        batch_size=4,
        num_workers=1,
        progress=False,
    )
    return run.model.get_weights()


@pytest.fixture(scope="module")
def fed_avg_weights():
    return float32_weights(algorithms.fed_avg())


@pytest.mark.parametrize(
    "algorithm",
    [
        algorithms.fed_prox(0.0),
        algorithms.fed_opt(optimizers.sgd(1.0)),
        algorithms.fed_avgm(1.0, momentum=0.0),
    ],
    ids=lambda algorithm: algorithm.name,
)
def test_equal_to_fed_avg_bit_for_bit(fed_avg_weights, algorithm):
    weights = float32_weights(algorithm)
    assert all(map(np.array_equal, weights, fed_avg_weights))


def test_fed_prox_holds_clients_back():
    """F(w) + mu / 2 (w - w0)^2 with F = (w - e)^2: a client at w0 = 0 goes to 2 e / (2 + mu)."""
    model = linear_model(1, SGD(0.0625))
    found = simulate(
        model, points([4.0], [1]), algorithms.fed_prox(2.0), rounds=1, local_epochs=400
    )
    np.testing.assert_allclose(found, 2.0, rtol=1e-12)


@pytest.mark.slow
def test_fed_prox_fixed_point():
    """As for FedAvg, with c_i = 1 - (1 - eta (1 + mu))^tau_i.

    The proximal term makes each step one towards (e_i + mu w) / (1 + mu).
    """
    mu = 3.0
    algorithm = algorithms.fed_prox(2 * mu)  # of a loss that is twice F_i
    found = simulate(
        linear_model(1, SGD(ETA / 2)), points(GOALS, STEPS), algorithm, rounds=300, batch_size=1
    )
    factors = P * (1 - (1 - ETA * (1 + mu)) ** np.array(STEPS))
    np.testing.assert_allclose(found, np.dot(factors, GOALS) / factors.sum(), rtol=1e-9)


SOLVERS = {
    "scaffold": (algorithms.scaffold(), 60, {}),
    "scaffold, two of five clients": (algorithms.scaffold(), 100, {"clients_per_round": 2}),
    "fed_dyn": (algorithms.fed_dyn(2.0), 60, {}),
    "fed_dyn, two of five clients": (algorithms.fed_dyn(4.0), 100, {"clients_per_round": 2}),
    "mime": (algorithms.mime(), 60, {}),
}


# With all clients in every round these solve an easier problem than with two of five.
SLOW = ("scaffold", "fed_dyn")


@pytest.mark.slow
@pytest.mark.parametrize("name", quick.all_but(SLOW, SOLVERS))
def test_several_local_steps_of_solvers_converge_to_the_solution(name):
    algorithm, rounds, options = SOLVERS[name]
    clients, a, b = regressions()
    solution = np.linalg.solve(a.sum(0), b.sum(0))[:, 0]
    found = simulate(
        linear_model(3, SGD(0.0625)), clients, algorithm, rounds, local_epochs=5, **options
    )
    np.testing.assert_allclose(found, solution, rtol=0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm",
    [algorithms.fed_avg(), algorithms.mime_lite()],
    ids=lambda algorithm: algorithm.name,
)
def test_several_local_steps_of_fed_avg_and_mime_lite_converge_elsewhere(algorithm):
    clients, a, b = regressions()
    solution = np.linalg.solve(a.sum(0), b.sum(0))[:, 0]
    weights = []
    found = simulate(
        linear_model(3, SGD(0.0625)),
        clients,
        algorithm,
        rounds=66,
        local_epochs=5,
        callbacks=[lambda round: weights.append(round.weights[0][0][:, 0])],
    )
    np.testing.assert_allclose(weights[60], found, atol=1e-8)  # it has converged
    assert np.abs(found - solution).max() > 1e-2


def quadratic_gradient(a, b, w):
    return a @ w - b


def test_scaffold_round_by_round():
    """Algorithm 1 with option II, written out in NumPy; two of four clients a round."""
    clients, a, b = regressions(num_clients=4)
    cohorts = [["c0", "c2"], ["c3", "c0"], ["c1", "c2"]]
    rate, server_rate, steps = 0.0625, 0.7, 3
    w, c, own = np.zeros([3, 1]), np.zeros([3, 1]), np.zeros([4, 3, 1])
    for cohort in cohorts:
        moves, changes = [], []
        for k in (int(name[1]) for name in cohort):
            y = w
            for _ in range(steps):
                y = y - rate * (quadratic_gradient(a[k], b[k], y) - own[k] + c)
            control = own[k] - c + (w - y) / (steps * rate)
            moves.append(y - w)
            changes.append(control - own[k])
            own[k] = control
        w = w + server_rate * np.mean(moves, axis=0)
        c = c + np.sum(changes, axis=0) / 4
    found = simulate_cohorts(
        algorithms.scaffold(server_learning_rate=server_rate), clients, cohorts, SGD(rate), steps
    )
    np.testing.assert_allclose(found, w[:, 0], rtol=1e-9)


def test_fed_dyn_round_by_round():
    """Algorithm 1 in NumPy, with gradient steps in place of the argmin; two of four clients."""
    clients, a, b = regressions(num_clients=4)
    cohorts = [["c0", "c2"], ["c3", "c0"], ["c1", "c2"]]
    rate, alpha, steps = 0.0625, 0.3, 4
    w, h, gradient = np.zeros([3, 1]), np.zeros([3, 1]), np.zeros([4, 3, 1])
    for cohort in cohorts:
        thetas = []
        for k in (int(name[1]) for name in cohort):
            theta = w
            for _ in range(steps):
                theta = theta - rate * (
                    quadratic_gradient(a[k], b[k], theta) - gradient[k] + alpha * (theta - w)
                )
            gradient[k] = gradient[k] - alpha * (theta - w)
            thetas.append(theta)
        h = h - alpha / 4 * np.sum([theta - w for theta in thetas], axis=0)
        w = np.mean(thetas, axis=0) - h / alpha
    found = simulate_cohorts(algorithms.fed_dyn(alpha), clients, cohorts, SGD(rate), steps)
    np.testing.assert_allclose(found, w[:, 0], rtol=1e-9)


@pytest.mark.parametrize("lite", [False, True])
def test_mime_round_by_round(lite):
    """Algorithm 1 in NumPy with momentum; all clients have the same number of examples."""
    clients, a, b = regressions(num_clients=4)
    cohorts = [["c0", "c2"], ["c3", "c0"], ["c1", "c2"]]
    rate, beta, steps = 0.0625, 0.8, 3
    w, m = np.zeros([3, 1]), np.zeros([3, 1])
    for cohort in cohorts:
        indices = [int(name[1]) for name in cohort]
        mean = np.mean([quadratic_gradient(a[k], b[k], w) for k in indices], axis=0)
        ends = []
        for k in indices:
            y = w
            for _ in range(steps):
                g = quadratic_gradient(a[k], b[k], y)
                if not lite:
                    g = g - quadratic_gradient(a[k], b[k], w) + mean
                y = y - rate * (beta * m + g)
            ends.append(y)
        w, m = np.mean(ends, axis=0), beta * m + mean
    algorithm = algorithms.mime_lite() if lite else algorithms.mime()
    found = simulate_cohorts(algorithm, clients, cohorts, SGD(rate, momentum=beta), steps)
    np.testing.assert_allclose(found, w[:, 0], rtol=1e-9)


def simulate_cohorts(algorithm, clients, cohorts, optimizer, steps):
    run = fl.simulate(
        linear_model(3, optimizer),
        clients,
        algorithm,
        rounds=len(cohorts),
        cohort=lambda client_ids, round_num, seed: cohorts[round_num - 1],
        batch_size=100,
        local_epochs=steps,
        num_workers=1,
        progress=False,
    )
    return run.model.get_weights()[0][:, 0]


@pytest.mark.slow
def test_control_variates_are_counted_among_the_bytes():
    clients, _, _ = regressions(num_clients=2)
    rows = []
    for algorithm in (algorithms.fed_avg(), algorithms.scaffold(), algorithms.mime()):
        run = fl.simulate(
            linear_model(3, SGD(0.1, momentum=0.9)),
            clients,
            algorithm,
            rounds=1,
            clients_per_round=2,
            progress=False,
        )
        rows.append((run.history[1]["bytes_down"], run.history[1]["bytes_up"]))
    # 3 weights of 8 bytes for each of 2 clients. Mime's survey sends a gradient and its weight,
    # its broadcast the momentum.
    assert rows == [(48, 48), (96, 96), (48 + 48 + 48 + 16, 48 + 48 + 16)]
