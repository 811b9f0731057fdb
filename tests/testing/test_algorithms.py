"""`check_algorithm`: every algorithm passes, and broken ones do not."""

import pytest
import tensorflow as tf

from fedlab import _modules, algorithms, optimizers
from fedlab.testing import check_algorithm

# The arguments that some methods need.
ARGUMENTS = {
    "fed_adagrad": {"server_learning_rate": 0.1},
    "fed_adam": {"server_learning_rate": 0.01},
    "fed_dyn": {"alpha": 0.1},
    "fed_opt": {
        "server_optimizer": optimizers.rmsprop(optimizers.schedules.cosine(0.05, rounds=4))
    },
    "fed_prox": {"mu": 0.5},
    "fed_recon": {"local_layers": ["head"]},
    "fed_yogi": {"server_learning_rate": 0.01},
}
NAMES = _modules.names("fedlab.algorithms")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm(name):
    check_algorithm(_modules.find("fedlab.algorithms", name)(**ARGUMENTS.get(name, {})))


def test_all_are_found_and_exported():
    assert {"fed_avg", "fed_sgd", "scaffold", "mime", "fed_recon", "fine_tuning"} <= set(NAMES)
    assert set(NAMES) <= set(algorithms.__all__)
    with pytest.raises(
        ValueError, match="'fedavg' is not one of the algorithms: expected fed_adagrad, "
    ):
        _modules.find("fedlab.algorithms", "fedavg")


def broken_dtype():
    base = algorithms.fed_avg()

    def server_update(weights, state, update):
        weights, state = base.server_update(weights, state, update)
        return [tf.cast(w, tf.float32) for w in weights], state

    return base._replace(server_update=server_update)


def broken_purity():
    """Goes further from round to round, and from run to run."""
    calls = []

    def server_update(weights, state, update):
        calls.append(1)
        return [w - (1 + 0.01 * len(calls)) * d for w, d in zip(weights, update.delta)], state

    return algorithms.fed_avg()._replace(server_update=server_update)


def broken_by_order():
    """A client has a larger weight the later it trains in the round."""
    base, trained = algorithms.fed_avg(client_weighting="uniform"), tf.Variable(0.0)

    def client_final(task, weights, state, counts):
        result = base.client_final(task, weights, state, counts)
        return result._replace(weight=trained.assign_add(1.0))

    def server_update(weights, state, update):
        trained.assign(0.0)
        return base.server_update(weights, state, update)

    return base._replace(client_final=client_final, server_update=server_update)


def broken_by_nan():
    """Hides what is not finite."""
    base = algorithms.fed_avg()

    def client_final(task, weights, state, counts):
        result = base.client_final(task, weights, state, counts)
        return result._replace(
            delta=[tf.where(tf.math.is_finite(d), d, tf.ones_like(d)) for d in result.delta]
        )

    return base._replace(client_final=client_final)


@pytest.mark.parametrize(
    "make, message",
    [
        (broken_dtype, "the weights that server_update of .fed_avg. returns is \\[float32"),
        pytest.param(broken_purity, "depends on the order", marks=pytest.mark.slow),
        pytest.param(broken_by_order, "depends on the order", marks=pytest.mark.slow),
        pytest.param(broken_by_nan, "does not drop a non-finite client", marks=pytest.mark.slow),
        (lambda: algorithms.fed_avg(server_learning_rate=0.0), "does not change the weights"),
    ],
)
def test_what_is_broken_is_found(make, message):
    with pytest.raises((AssertionError, ValueError), match=message):
        check_algorithm(make())
