"""float64 models: ten algorithms against NumPy, client optimizers against Keras, and TFF."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import algorithms
from fedlab.aggregators import clipped, mean
from fedlab.learner import Yogi
from fedlab.optimizers import schedules
from tests.quadratics import linear_model

RATE = float(np.float32(0.1))  # as Keras keeps a rate, also for a model of float64
COHORTS = [[0, 1], [2, 0], [1, 2], [0], [2, 1]]
START = np.array([[0.3], [-0.7]])


def make_clients():
    """Clients of 1, 2 and 3 batches of 4."""
    rng, clients = np.random.default_rng(0), {}
    for k in range(3):
        x = rng.normal(size=[4 * k + 4, 2])
        clients[f"c{k}"] = {"x": x, "y": x @ rng.normal(size=[2, 1]) + rng.normal(size=[len(x), 1])}
    return fl.ClientData.from_dict(clients)


CLIENTS = make_clients()
BATCHES = [
    [(c["x"][i : i + 4], c["y"][i : i + 4]) for i in range(0, len(c["x"]), 4)]
    for c in map(CLIENTS.__getitem__, CLIENTS)
]
SIZES, STEPS = np.array([4.0, 8.0, 12.0]), np.array([1.0, 2.0, 3.0])


def simulate(algorithm, optimizer, **options):
    model = linear_model(2, optimizer)
    model.set_weights([START])
    options = {
        "cohort": lambda ids, round_num, seed: [f"c{k}" for k in COHORTS[round_num - 1]],
        "num_workers": 1,
        **options,
    }
    options = {
        "batch_size": 4,
        "shuffle": False,
        "progress": False,
        "rounds": len(COHORTS),
        **options,
    }
    return fl.simulate(model, CLIENTS, algorithm, **options).model.get_weights()[0]


def gradient(w, batch):
    x, y = batch
    return 2 * x.T @ (x @ w - y) / len(x)


def mean_gradient(w, k):
    return np.mean([gradient(w, batch) for batch in BATCHES[k]], axis=0)


def trained(w, k, correction=lambda y: 0.0, rate=RATE):
    for batch in BATCHES[k]:
        w = w - rate * (gradient(w, batch) + correction(w))
    return w


def average(values, cohort, weights=SIZES):
    return np.average(values, axis=0, weights=weights[cohort])


def averaging(step, mu=0.0):
    """FedAvg's and FedProx's clients; `step(delta, t)` is what the server subtracts in round t."""
    w = START
    for t, cohort in enumerate(COHORTS, 1):
        delta = average([w - trained(w, k, lambda y, w=w: mu * (y - w)) for k in cohort], cohort)
        w = w - step(delta, t)
    return w


def with_momentum(rate, beta):
    m = np.zeros_like(START)

    def step(delta, t):
        nonlocal m
        m = beta * m + delta
        return rate * m

    return step


def adaptive(rate, second, epsilon=1e-3, beta_1=0.9, beta_2=0.999, start=0.0, bias_correction=True):
    m, v = np.zeros_like(START), np.full_like(START, start)

    def step(delta, t):
        nonlocal m, v
        m, v = beta_1 * m + (1 - beta_1) * delta, second(v, delta**2, beta_2)
        factor = np.sqrt(1 - beta_2**t) / (1 - beta_1**t) if bias_correction else 1.0
        return rate * factor * m / (np.sqrt(v) + epsilon)

    return step


def scaffold():
    w, c, own = START, np.zeros_like(START), np.zeros([3, 2, 1])
    for cohort in COHORTS:
        ends = [trained(w, k, lambda y, k=k, c=c: c - own[k]) for k in cohort]
        controls = [own[k] - c + (w - end) / (STEPS[k] * RATE) for k, end in zip(cohort, ends)]
        w, before = np.mean(ends, axis=0), own[cohort].copy()
        own[cohort] = controls
        c = c + np.sum(own[cohort] - before, axis=0) / 3
    return w


def fed_nova():
    w = START
    for cohort in COHORTS:
        normalized = [(w - trained(w, k)) / STEPS[k] for k in cohort]
        w = w - average(STEPS[cohort], cohort) * average(normalized, cohort)
    return w


def fed_dyn(alpha):
    w, h, own = START, np.zeros_like(START), np.zeros([3, 2, 1])
    for cohort in COHORTS:
        ends = [trained(w, k, lambda y, k=k, w=w: alpha * (y - w) - own[k]) for k in cohort]
        h = h - alpha * np.sum([end - w for end in ends], axis=0) / 3
        own[cohort] = [own[k] - alpha * (end - w) for k, end in zip(cohort, ends)]
        w = np.mean(ends, axis=0) - h / alpha
    return w


def mime_lite(beta):
    w, m = START, np.zeros_like(START)
    for cohort in COHORTS:
        ends = [trained(w, k, lambda y, m=m: beta * m) for k in cohort]
        m = beta * m + average([mean_gradient(w, k) for k in cohort], cohort)
        w = average(ends, cohort)
    return w


def mime_lite_of_the_paper(rate, beta):
    w, m = START, np.zeros_like(START)
    for cohort in COHORTS:
        ends = []
        for k in cohort:
            y = w
            for batch in BATCHES[k]:
                y = y - rate * ((1 - beta) * gradient(y, batch) + beta * m)
            ends.append(y)
        m = (1 - beta) * average([mean_gradient(w, k) for k in cohort], cohort) + beta * m
        w = average(ends, cohort)
    return w


def adagrad(rate, epsilon=1e-3, start=0.0):
    v = np.full_like(START, start)

    def step(delta, t):
        nonlocal v
        v = v + delta**2
        return rate * delta / (np.sqrt(v) + epsilon)

    return step


def adam_second(v, square, beta):
    return beta * v + (1 - beta) * square


def yogi_second(v, square, beta):
    return v - (1 - beta) * np.sign(v - square) * square


CASES = {
    "fed_avg": (
        algorithms.fed_avg(server_learning_rate=0.7),
        lambda: averaging(lambda delta, t: 0.7 * delta),
    ),
    "fed_prox": (algorithms.fed_prox(0.3), lambda: averaging(lambda delta, t: delta, mu=0.3)),
    "fed_avgm": (algorithms.fed_avgm(0.7), lambda: averaging(with_momentum(0.7, 0.9))),
    "fed_adam": (algorithms.fed_adam(0.1), lambda: averaging(adaptive(0.1, adam_second))),
    "fed_yogi": (algorithms.fed_yogi(0.1), lambda: averaging(adaptive(0.1, yogi_second))),
    "fed_adagrad": (algorithms.fed_adagrad(0.1), lambda: averaging(adagrad(0.1))),
    "scaffold": (algorithms.scaffold(), scaffold),
    "fed_nova": (algorithms.fed_nova(), fed_nova),
    "fed_dyn": (algorithms.fed_dyn(0.3), lambda: fed_dyn(0.3)),
    "mime_lite": (algorithms.mime_lite(), lambda: mime_lite(0.9)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_numpy(name):
    algorithm, reference = CASES[name]
    optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9 if name == "mime_lite" else 0.0)
    np.testing.assert_allclose(simulate(algorithm, optimizer), reference(), rtol=1e-13)


PAPER = dict(epsilon=0.01, initial_accumulator_value=0.01**2)


@pytest.mark.parametrize(
    "algorithm, reference",
    [
        (
            algorithms.fed_adam(0.1, bias_correction=False, **PAPER),
            lambda: averaging(
                adaptive(0.1, adam_second, 0.01, start=0.01**2, bias_correction=False)
            ),
        ),
        (
            algorithms.fed_yogi(0.1, bias_correction=False, **PAPER),
            lambda: averaging(
                adaptive(0.1, yogi_second, 0.01, start=0.01**2, bias_correction=False)
            ),
        ),
        (
            algorithms.fed_adagrad(0.1, **PAPER),
            lambda: averaging(adagrad(0.1, 0.01, start=0.01**2)),
        ),
    ],
)
def test_the_papers_start_of_the_second_moment(algorithm, reference):
    np.testing.assert_allclose(
        simulate(algorithm, "sgd", client_learning_rate=schedules.constant(RATE)),
        reference(),
        rtol=1e-13,
    )


def test_mime_with_the_papers_momentum():
    optimizer, rate = (
        tf.keras.optimizers.SGD(1.0, momentum=0.9),
        schedules.constant(0.5 * (1 - 0.9)),
    )
    found = simulate(algorithms.mime_lite(), optimizer, client_learning_rate=rate)
    np.testing.assert_allclose(found, mime_lite_of_the_paper(0.5, 0.9), rtol=1e-12)


def test_weights_schedules_and_norms_are_float64():
    # Irrational client weights, a rate that is exact only in float64, and a clip norm of 0.1
    # that every client exceeds.
    weights, rate, w = (
        np.sqrt(np.float32(SIZES)).astype(float),
        schedules.exponential(0.1, factor=0.9),
        START,
    )
    for t, cohort in enumerate(COHORTS, 1):
        deltas = [w - trained(w, k, rate=0.1 * 0.9 ** (t - 1)) for k in cohort]
        clips = [delta * min(1, 0.1 / np.linalg.norm(delta)) for delta in deltas]
        w = w - average(clips, cohort, weights)
    algorithm = algorithms.fed_avg(client_weighting=lambda counts: tf.sqrt(counts.num_examples))
    found = simulate(
        algorithm, "sgd", client_learning_rate=rate, aggregator=clipped(mean(), norm=0.1)
    )
    np.testing.assert_allclose(found, w, rtol=1e-13)


def alone(optimizer, **options):
    return simulate(algorithms.fed_avg(), optimizer, cohort=["c2"], rounds=1, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.keras.optimizers.SGD(0.1),
        lambda: tf.keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: tf.keras.optimizers.Adam(0.1),
        pytest.param(lambda: tf.keras.optimizers.AdamW(0.1), marks=pytest.mark.slow),
        pytest.param(lambda: tf.keras.optimizers.Nadam(0.1), marks=pytest.mark.slow),
        pytest.param(lambda: tf.keras.optimizers.RMSprop(0.1), marks=pytest.mark.slow),
    ],
)
def test_a_client_steps_as_keras_does(make):
    """To 1e-13 where Keras does not round momentum and betas to float32; else to 1e-5."""
    ours = alone(make())
    for number, tolerance in ((np.float64, 1e-13), (float, 1e-5)):
        model = linear_model(2, make())
        for name, value in model.optimizer.get_config().items():
            if isinstance(value, float) and name != "learning_rate":
                setattr(model.optimizer, name, number(value))
        model.set_weights([START])
        model.run_eagerly = True
        for x, y in BATCHES[2]:
            model.train_on_batch(
                tf.constant(x), tf.constant(y)
            )  # NumPy arrays would become float32
        np.testing.assert_allclose(ours, model.get_weights()[0], rtol=tolerance)


def test_a_schedule_is_float64_with_every_optimizer():
    # The first step of Adam without epsilon is as large as the rate.
    optimizer, rate = tf.keras.optimizers.Adam(0.5, epsilon=0.0), schedules.constant(0.1)
    end = simulate(
        algorithms.fed_avg(), optimizer, rounds=1, cohort=["c0"], client_learning_rate=rate
    )
    np.testing.assert_allclose(np.abs(end - START), 0.1, rtol=1e-14)


@pytest.mark.parametrize(
    "algorithm, optimizer", [(algorithms.fed_yogi(0.1), "sgd"), (algorithms.fed_avg(), Yogi(0.1))]
)
def test_tff_has_no_yogi_in_float64(algorithm, optimizer):
    pytest.importorskip("tensorflow_federated")
    with pytest.raises(
        ValueError, match="is not float32: expected float32 weights with engine='tff' and Yogi"
    ):
        simulate(algorithm, optimizer, engine="tff")


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm, optimizer, options",
    [
        (algorithms.fed_avgm(0.7), lambda: tf.keras.optimizers.SGD(0.1, momentum=0.9), {}),
        (algorithms.fed_adam(0.1), lambda: tf.keras.optimizers.Adam(0.1), {}),
        (
            algorithms.fed_avg(server_learning_rate=0.7),
            lambda: tf.keras.optimizers.SGD(0.1),
            {"client_learning_rate": schedules.cosine(0.1, rounds=7)},
        ),
        (algorithms.mime_lite(), lambda: tf.keras.optimizers.SGD(0.1, momentum=0.9), {}),
    ],
)
def test_equals_tff(algorithm, optimizer, options):
    pytest.importorskip("tensorflow_federated")
    ours, theirs = (
        simulate(algorithm, optimizer(), engine=engine, **options) for engine in ("local", "tff")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
