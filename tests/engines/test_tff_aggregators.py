"""Zeroing, clipping and differential privacy against TFF's: weights, and noise distribution."""

import contextlib
import math

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.aggregators import (
    adaptive,
    clipped,
    differentially_private,
    krum,
    mean,
    median,
    quantized,
    trimmed_mean,
    zeroed,
)
from fedlab.engines import local
from fedlab.engines import tff as tff_engine
from fedlab.engines.engine import Setting
from fedlab.learner import clone

pytest.importorskip("tensorflow_federated")


def make_setting(aggregator, weighting="uniform", width=3):
    """Four clients whose updates' norms differ several times."""
    rng = np.random.default_rng(0)
    sizes = {f"c{k}": 4 + 4 * k for k in range(4)}
    clients = {
        name: {
            "x": (rng.normal(size=[n, 4]) * n / 4).astype(np.float32),
            "y": rng.integers(3, size=n),
        }
        for name, n in sizes.items()
    }
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(width)])
    model.compile(
        tf.keras.optimizers.SGD(0.1),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    algorithm = fl.algorithms.fed_avg(client_weighting=weighting)
    return Setting(
        model,
        lambda: clone(model),
        fl.ClientData.from_dict(clients),
        algorithm,
        aggregator,
        fl.clients.Batching(batch_size=4),
        0,
    )


def rounds(engine, setting, num_rounds=3, restored=False):
    """Each round's weights and what the aggregator reports."""
    cohort = list(setting.clients.client_ids)
    with contextlib.closing(engine.start(setting)) as process:
        start = [w.numpy() for w in setting.model.weights], []
        state, results = process.init(*start), []
        for round_num in range(1, num_rounds + 1):
            state, result = process.run_round(state, round_num, cohort)
            results.append((process.weights(state)[0], result.aggregator))
            if restored:
                state = process.restore(process.init(*start), process.save(state))
    return results


slow = pytest.mark.slow
CASES = [
    pytest.param(lambda: make_setting(clipped(mean(), 0.3), "num_examples"), id="clipped"),
    pytest.param(
        lambda: make_setting(clipped(mean(), adaptive(0.5, 0.4, 0.5)), "num_examples"),
        id="clipped-adaptive",
        marks=slow,
    ),
    pytest.param(lambda: make_setting(zeroed(mean(), 0.55)), id="zeroed", marks=slow),
    pytest.param(
        lambda: make_setting(
            zeroed(clipped(), adaptive(0.3, 0.5, 1.0, multiplier=1.5, increment=0.1)),
            "num_examples",
        ),
        id="zeroed-clipped",
    ),
    pytest.param(lambda: make_setting(zeroed(clipped())), id="robust_aggregator", marks=slow),
    pytest.param(
        lambda: make_setting(differentially_private(0.0, 4, 10, norm=0.3)), id="dp", marks=slow
    ),
    pytest.param(
        lambda: make_setting(zeroed(differentially_private(0.0, 5, 10), 2.0)),
        id="zeroed-dp-adaptive",
    ),
    pytest.param(
        lambda: make_setting(differentially_private(0.0, 4, 10, norm=0.3))._replace(
            algorithm=fl.algorithms.fed_prox(0.0, client_weighting="uniform", server_momentum=0.5)
        ),
        id="dp, fed_prox",
        marks=slow,
    ),
    # TFF corrects Adam's bias in float32, where 1 - 0.999 is off by 1e-5. Powers of these betas
    # are exact.
    pytest.param(
        lambda: make_setting(zeroed(clipped(mean(), 0.3), 0.55))._replace(
            algorithm=fl.algorithms.fed_adam(0.05, beta_1=0.875, beta_2=0.75, epsilon=0.01)
        ),
        id="zeroed-clipped, fed_adam",
        marks=slow,
    ),
]


@pytest.mark.parametrize("make", CASES)
def test_equals_tff_without_noise(make):
    setting = make()
    for (ours, metrics), (theirs, tff_metrics) in zip(
        rounds(local, setting), rounds(tff_engine, setting)
    ):
        for value, other in zip(ours, theirs):
            np.testing.assert_allclose(value, other, rtol=0, atol=1e-6 * np.abs(other).max())
        assert {"clip_norm", "zero_norm", "epsilon"} & set(tff_metrics)
        assert {name: metrics[name] for name in tff_metrics} == pytest.approx(tff_metrics, rel=1e-6)


@pytest.mark.parametrize(
    "norm", [0.3, pytest.param(adaptive(0.3, 0.5, 0.2), marks=slow)], ids=["fixed", "adaptive"]
)
def test_noise_is_distributed_as_that_of_tff(norm):
    """The noise in the first round's weights over the reported standard deviation is N(0, 1)."""
    width, arguments = 4000, dict(clients_per_round=400, num_clients=1000, norm=norm)
    silent = rounds(local, make_setting(differentially_private(0.0, **arguments), width=width), 1)[
        0
    ][0][0]
    setting = make_setting(differentially_private(1.0, **arguments), width=width)
    (ours, metrics), (theirs, tff_metrics) = (
        rounds(local, setting, 1)[0],
        rounds(tff_engine, setting, 1)[0],
    )
    assert metrics["epsilon"] == tff_metrics["epsilon"]
    size = silent.size
    for weights in (ours[0], theirs[0]):
        z = (weights - silent).ravel() / metrics["noise_stddev"]
        assert abs(z.mean()) < 4 / math.sqrt(size)
        assert abs(z.var() - 1) < 4 * math.sqrt(2 / size)
        for bound, share in [(1, 0.682689), (2, 0.954500)]:
            assert abs((np.abs(z) < bound).mean() - share) < 4 * math.sqrt(
                share * (1 - share) / size
            )


def test_a_tff_checkpoint_resumes_bit_identically():
    setting = make_setting(zeroed(differentially_private(0.0, 5, 10), 2.0))
    for (weights, metrics), (others, other_metrics) in zip(
        rounds(tff_engine, setting, 2, restored=True), rounds(tff_engine, setting, 2)
    ):
        assert (
            all(np.array_equal(a, b) for a, b in zip(weights, others)) and metrics == other_metrics
        )


@pytest.mark.parametrize(
    "aggregator, name",
    [
        (median(), "median"),
        (trimmed_mean(), "trimmed_mean"),
        (krum(), "krum"),
        (clipped(quantized()), "quantized"),
    ],
)
def test_features_that_tff_lacks_are_refused(aggregator, name):
    message = f"engine='tff' with aggregator '{name}': expected mean, clipped, zeroed, "
    message += "differentially_private"
    with pytest.raises(ValueError, match=message):
        tff_engine.start(make_setting(aggregator))


def test_a_private_aggregator_needs_uniform_weights_on_tff():
    with pytest.raises(
        ValueError,
        match="client_weighting='num_examples': expected 'uniform' with a private aggregator",
    ):
        tff_engine.start(make_setting(differentially_private(1.0, 100, 1000), "num_examples"))
