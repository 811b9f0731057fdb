"""`check_aggregator` over every aggregator and over compositions, and that the check can fail."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import _modules
from fedlab.aggregators import (
    clipped,
    differentially_private,
    krum,
    mean,
    median,
    quantized,
    trimmed_mean,
    zeroed,
)
from tests import quick

NAMES = _modules.names("fedlab.aggregators")

# Those that cannot be made without arguments.
ARGUMENTS = {
    "differentially_private": dict(noise_multiplier=0.1, clients_per_round=8, num_clients=8)
}

COMPOSED = {
    "clipped(quantized(mean()))": lambda: clipped(quantized(mean())),
    "zeroed(clipped(quantized(median(), 4), .1))": lambda: zeroed(
        clipped(quantized(median(), 4), 0.1)
    ),
    "quantized(clipped(trimmed_mean(.2)), 2)": lambda: quantized(clipped(trimmed_mean(0.2)), 2),
    "quantized(quantized())": lambda: quantized(quantized()),
    "clipped(krum(.2, 3))": lambda: clipped(krum(0.2, 3)),
    "zeroed(quantized(differentially_private(...)), 5)": lambda: zeroed(
        quantized(differentially_private(1.0, 8, 10, norm=0.1, sampling="uniform")), 5.0
    ),
}


@pytest.mark.parametrize("name", quick.only(("mean",), NAMES))
def test_every_aggregator_keeps_the_contract(name):
    fl.testing.check_aggregator(
        _modules.find("fedlab.aggregators", name)(**ARGUMENTS.get(name, {}))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSED)
def test_compositions_keep_the_contract(name):
    fl.testing.check_aggregator(COMPOSED[name]())


def test_names():
    assert {
        "clipped",
        "differentially_private",
        "krum",
        "mean",
        "median",
        "quantized",
        "trimmed_mean",
        "zeroed",
    } <= set(NAMES)
    assert set(NAMES) <= set(fl.aggregators.__all__)
    assert all(
        _modules.find("fedlab.aggregators", name)(**ARGUMENTS.get(name, {})).name == name
        for name in NAMES
    )


def counts_the_weightless():
    """The sum over the number of clients, those of weight 0 too."""
    own = mean()
    accumulate = own.accumulate
    return own._replace(
        accumulate=lambda state, a, delta, weight, seed: accumulate(
            state, a, delta, tf.ones([]), seed
        )
    )


def last_client_wins():
    own = mean()
    return own._replace(
        accumulate=lambda state, a, delta, weight, seed: a._replace(
            total=delta, weight=tf.cast(weight, tf.float64)
        ),
        merge=lambda a, b: b,
    )


def loses_a_block():
    return mean()._replace(merge=lambda first, second: first)


def keeps_its_state_in_python():
    own, rounds = mean(), []

    def report(state, accumulator, seed):
        rounds.append(None)
        delta, state, metrics = own.report(state, accumulator, seed)
        return [d * len(rounds) for d in delta], state, metrics

    return own._replace(report=report)


def other_dtype():
    own = mean()

    def report(*arguments):
        delta, state, metrics = own.report(*arguments)
        return [tf.cast(d, tf.float64) for d in delta], state, metrics

    return own._replace(report=report)


def state_grows():
    own = mean()._replace(init=lambda weights: tf.zeros([1]))
    return own._replace(
        report=lambda state, a, seed: (
            mean().report((), a, seed)[0],
            tf.concat([state, [0.0]], 0),
            {},
        )
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (counts_the_weightless, "a client of weight 0 counts"),
        (last_client_wins, "the clients' order matters|merged blocks differ"),
        (loses_a_block, "merged blocks differ from one block"),
        (keeps_its_state_in_python, "other bits the second time"),
        (other_dtype, "an update is"),
        (state_grows, "checkpoints do not fit"),
    ],
)
def test_broken_aggregators_fail_the_check(make, message):
    with pytest.raises(AssertionError, match=message):
        fl.testing.check_aggregator(make())


def test_metrics_are_finite_numbers_in_the_history():
    run = small_run(clipped(quantized(mean())))
    for row in run.history[1:]:
        assert {"clip_norm", "clipped_fraction", "bytes_up"} <= set(row)
        # A byte a value, of 12 and of 3, with level and step of each tensor.
        assert row["bytes_up"] == 4 * (12 + 8 + 3 + 8) and row["bytes_down"] == 4 * 60


def test_extras_that_are_not_encoded_count_as_bytes():
    # A control variate of 15 values goes up beside the encoded update.
    row = small_run(quantized(), rounds=1, algorithm=fl.algorithms.scaffold()).history[1]
    assert row["bytes_up"] == 4 * (12 + 8 + 3 + 8) + 4 * 15 * 4


def small_run(aggregator, rounds=2, algorithm=None, **options):
    rng = np.random.default_rng(0)
    columns = {
        f"c{k}": {"x": rng.normal(size=[6, 4]).astype(np.float32), "y": rng.integers(3, size=6)}
        for k in range(6)
    }
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(3)], name="small")
    model.compile(
        tf.keras.optimizers.SGD(0.1),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    options = {
        "clients_per_round": None if "cohort" in options else 4,
        "progress": False,
        "num_workers": 1,
        **options,
    }
    return fl.simulate(
        model,
        fl.ClientData.from_dict(columns),
        algorithm,
        rounds=rounds,
        aggregator=aggregator,
        **options,
    )


@pytest.mark.slow
def test_settings_are_recorded_and_compared(tmp_path):
    small_run(clipped(quantized(mean(), 4), 0.5), rounds=1, run_dir=tmp_path / "run")
    small_run(clipped(quantized(mean(), 4), 0.5), rounds=2, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match="aggregator_settings.inner.bits is 8, was 4"):
        small_run(clipped(quantized(mean(), 8), 0.5), rounds=2, run_dir=tmp_path / "run")
