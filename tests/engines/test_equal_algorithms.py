"""Algorithms on the local engine and TFF's own give the same weights after every round."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from fedlab import algorithms, optimizers
from fedlab.engines import local
from fedlab.engines import tff as tff_engine
from fedlab.optimizers import schedules
from tests import quick
from tests.engines.test_tff import classes, features, make_setting, mlp, row_clients, weights_of

pytest.importorskip("tensorflow_federated")

from fedlab.engines.tff import algorithms as _tff_algorithms  # noqa: E402


def rounds(engine, setting, num_rounds=4):
    """The weights after every round, of other clients each."""
    with contextlib.closing(engine.start(setting)) as process:
        state, found = process.init(*weights_of(setting.model)), []
        for round_num in range(1, num_rounds + 1):
            cohort = [f"c{(round_num + i) % 3}" for i in range(1 + round_num % 3)]
            state, _ = process.run_round(state, round_num, cohort)
            found.append(process.weights(state)[0])
        return found


def momentum():
    return tf.keras.optimizers.SGD(0.1, momentum=0.9)


def adam():
    return tf.keras.optimizers.Adam(0.05, epsilon=0.01)


slow = pytest.mark.slow
CASES = {
    "fed_sgd": (algorithms.fed_sgd(), None, None),
    "fed_sgd, adam": (algorithms.fed_sgd(optimizers.adam(0.05, epsilon=0.01)), None, None),
    "fed_prox, mu 0": (
        algorithms.fed_prox(0.0, client_weighting="uniform", server_momentum=0.5),
        momentum,
        None,
    ),
    "fed_avgm": (algorithms.fed_avgm(0.5, momentum=0.9), None, None),
    "fed_adagrad": (algorithms.fed_adagrad(0.1, epsilon=0.01, epsilon_in_root=True), None, None),
    "fed_adam": (algorithms.fed_adam(0.05, epsilon=0.01), None, None),
    "fed_yogi": (algorithms.fed_yogi(0.05, epsilon=0.01), momentum, None),
    "fed_opt, rmsprop": (
        algorithms.fed_opt(optimizers.rmsprop(0.05, rho=0.8, epsilon=0.01, epsilon_in_root=False)),
        None,
        None,
    ),
    "fed_opt, adamw": (
        algorithms.fed_opt(optimizers.adamw(0.05, epsilon=0.01, weight_decay=0.1)),
        None,
        None,
    ),
    "server schedule": (
        algorithms.fed_avg(server_learning_rate=schedules.cosine(1.0, rounds=5)),
        None,
        None,
    ),
    "client schedule": (
        algorithms.fed_avg(),
        momentum,
        schedules.warm_up(schedules.step(0.2, every=2, factor=0.5), rounds=2),
    ),
    "mime_lite": (algorithms.mime_lite(), momentum, None),
    "mime_lite, client schedule": (
        algorithms.mime_lite(),
        momentum,
        schedules.step(0.2, every=2, factor=0.5),
    ),
    "mime_lite, adam, uniform": (
        algorithms.mime_lite(client_weighting="uniform", server_learning_rate=0.7),
        adam,
        None,
    ),
}
FAST = ("fed_sgd", "fed_adam", "client schedule", "mime_lite")


@pytest.mark.parametrize("name", quick.only(FAST, CASES))
def test_same_weights_round_by_round(name):
    algorithm, optimizer, schedule = CASES[name]
    tf.keras.utils.set_random_seed(1)
    setting = make_setting(
        mlp(optimizer and optimizer()), row_clients(x=features, y=classes), epochs=2
    )
    setting = setting._replace(algorithm=algorithm, client_learning_rate=schedule)
    start = weights_of(setting.model)[0]
    for ours, theirs in zip(rounds(local, setting), rounds(tff_engine, setting)):
        for value, other, before in zip(ours, theirs, start):
            np.testing.assert_allclose(value, other, rtol=0, atol=1e-5 * np.abs(other).max())
            assert not np.allclose(value, before, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_fed_prox_is_that_of_tff_with_the_sign_of_its_proximal_term_put_right(monkeypatch):
    """TFF 0.87 adds mu (w - w_k) to the gradient, so it equals ours with -mu.

    This is why engine 'tff' refuses FedProx.
    """
    monkeypatch.setitem(_tff_algorithms._ALGORITHMS, "fed_prox", _tff_algorithms.fed_prox_of_tff)
    tf.keras.utils.set_random_seed(1)
    setting = make_setting(mlp(momentum()), row_clients(x=features, y=classes), epochs=2)
    repelled = algorithms.fed_prox(0.5)

    def client_step(task, weights, state, batch):
        turned = [
            w + (w - now) for w, now in zip(weights, state.weights)
        ]  # w_k mirrored at w turns the sign of w_k - w
        gradients = [
            g + 0.5 * (t - w)
            for g, t, w in zip(task.gradients(state.weights, batch), turned, weights)
        ]
        return type(state)(*task.optimizer.apply(state.weights, state.optimizer, gradients))

    theirs = rounds(tff_engine, setting._replace(algorithm=repelled))
    for mirrored, other in zip(
        rounds(local, setting._replace(algorithm=repelled._replace(client_step=client_step))),
        theirs,
    ):
        for value, expected in zip(mirrored, other):
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    ours = rounds(local, setting._replace(algorithm=repelled), 1)[0]
    assert max(np.abs(value - other).max() for value, other in zip(ours, theirs[0])) > 1e-2


@pytest.mark.parametrize(
    "algorithm, message",
    [
        (
            algorithms.mime(),
            "algorithm 'mime': expected fed_adagrad, .*fed_prox, .*mime_lite",
        ),
        (
            algorithms.fed_adam(0.1, bias_correction=False),
            "bias_correction=False for server optimizer 'adam': expected True",
        ),
        (algorithms.fed_adagrad(0.1), "epsilon_in_root=False for server"),
        (algorithms.fed_avgm(nesterov=True), "nesterov=True for server"),
        (algorithms.fed_prox(1.0), "mu=1.0: expected 0 with engine='tff'"),
        (
            algorithms.fed_avg(client_weighting=lambda counts: counts.num_steps),
            "client_weighting=<lambda>: expected one of",
        ),
        (
            algorithms.mime_lite(client_weighting="num_tokens"),
            "expected 'num_examples' or 'uniform'",
        ),
    ],
)
def test_features_that_tff_lacks_are_refused(algorithm, message):
    setting = make_setting(mlp(), row_clients(x=features, y=classes))._replace(algorithm=algorithm)
    with pytest.raises(ValueError, match=message):
        tff_engine.start(setting)


def test_a_schedule_that_tff_lacks_is_refused():
    setting = make_setting(mlp(), row_clients(x=features, y=classes))
    setting = setting._replace(
        algorithm=algorithms.fed_prox(1.0), client_learning_rate=schedules.constant(0.1)
    )
    with pytest.raises(
        ValueError,
        match="client_learning_rate with engine='tff' and algorithm 'fed_prox': expected",
    ):
        tff_engine.start(setting)
