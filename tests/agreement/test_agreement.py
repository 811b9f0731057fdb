"""Both stacks give the same loss curves, and the weights of TFF's own algorithms.

Each stack is compared with the records that the tff stack has written (see `record`). The slow
tests run the other stack, too, if its environment is there.
"""

import functools
import os
import pathlib
import subprocess

import numpy as np
import pytest

from fedlab.learner import stack
from tests import quick
from tests.agreement import record
from tests.agreement.experiments import LOCAL, ROUNDS, TFF, keras
from tests.stacks import IS_KERAS_3

ROOT = pathlib.Path(__file__).resolve().parents[2]
OTHER = {"modern": ".venv-tff", "tff": ".venv"}[stack.name()]

FAST_LOCAL = {
    "dense, fed_prox, momentum",
    "dense, scaffold",
    "dense, fed_adam",
    "cnn, batch normalization",
    "cnn, batch normalization of images",
}
FAST_TFF = {"fed_avg", "fed_prox", "fed_adam"}

# Evaluation uses variances that Keras 2 and Keras 3 define differently; training does not.
TRAINING_ONLY = {"cnn, batch normalization of images"}


@functools.cache
def losses(name):
    return record.curves(LOCAL[name].run())


@functools.cache
def weights(name):
    return record.weights(TFF[name].run(evaluate_on=None))


def assert_same_losses(experiment, found, expected):
    assert found.keys() == expected.keys() == {"train_loss", "test_loss"}
    for name in ["train_loss"] if experiment in TRAINING_ONLY else expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-4, err_msg=name)


def assert_same_weights(found, expected):
    assert len(found) == len(expected)
    for i, (value, other) in enumerate(zip(found, expected)):
        tolerance = 1e-5 * np.abs(other).max()
        np.testing.assert_allclose(value, other, rtol=0, atol=tolerance, err_msg=f"weight {i}")


@pytest.mark.parametrize("name", quick.only(FAST_LOCAL, LOCAL))
def test_the_loss_curve_is_the_recorded_one(name):
    assert_same_losses(name, losses(name), record.read("local")[name])


@pytest.mark.parametrize("name", quick.only(FAST_TFF, TFF))
def test_the_local_engine_gives_the_weights_of_tff(name):
    assert_same_weights(weights(name), record.read("tff")[name])


@pytest.mark.parametrize("shape", [[12, 1], [3, 4, 1], [3, 2, 2, 1], [3, 2, 2, 1, 1]])
def test_the_variance_that_batch_normalization_keeps(shape):
    """Of images and volumes, Keras 2 keeps the unbiased estimate. The outputs are the same."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = keras.layers.BatchNormalization(momentum=0.0, epsilon=1e-3)
    outputs = layer(x, training=True)
    np.testing.assert_allclose(outputs, (x - x.mean()) / np.sqrt(x.var() + 1e-3), atol=1e-5)
    factor = 1 if IS_KERAS_3 or len(shape) < 4 else 12 / 11
    np.testing.assert_allclose(layer.moving_variance, [x.var() * factor], rtol=1e-5)


def test_the_records_can_tell_experiments_apart():
    """Every experiment trains, and changes what another one gives by more than the tolerance."""
    curves = record.read("local")
    assert curves.keys() == LOCAL.keys()
    for name, curve in curves.items():
        assert len(curve["train_loss"]) == ROUNDS and len(curve["test_loss"]) == ROUNDS + 1
        assert curve["test_loss"][-1] < curve["test_loss"][0] - 0.01, name
    compared = [curve["test_loss"] for name, curve in curves.items() if name not in TRAINING_ONLY]
    assert smallest_difference(compared) > 1e-3
    trained = record.read("tff")
    assert trained.keys() == TFF.keys()
    assert smallest_difference([sum(each, []) for each in trained.values()]) > 1e-3
    for name, experiment in TFF.items():
        initial = record.initial_weights(experiment)
        assert smallest_difference([sum(trained[name], []), sum(initial, [])]) > 1e-2, name


def smallest_difference(lists):
    """Of any two lists of the same length: the largest difference of their numbers."""
    return min(
        np.abs(np.subtract(a, b)).max()
        for i, a in enumerate(lists)
        for b in lists[:i]
        if len(a) == len(b)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TFF)
def test_tff_still_gives_the_recorded_weights(name):
    pytest.importorskip("tensorflow_federated")
    assert_same_weights(record.tff_weights(TFF[name]), record.read("tff")[name])


@pytest.mark.slow
def test_the_other_stack_gives_the_same(tmp_path):
    python = ROOT / OTHER / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {OTHER}: run scripts/setup with the other --stack")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(tmp_path / "log", "wb") as log:  # a worker of TFF would keep a pipe open
        done = subprocess.run(
            [python, "-m", "tests.agreement.record", tmp_path],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    assert done.returncode == 0, (tmp_path / "log").read_text(errors="replace")[-2000:]
    curves = record.read("local", tmp_path)
    assert curves.keys() == LOCAL.keys()
    for name, curve in curves.items():
        assert_same_losses(name, losses(name), curve)
    if stack.name() == "modern":
        trained = record.read("tff", tmp_path)
        assert trained.keys() == TFF.keys()
        for name, expected in trained.items():
            assert_same_weights(weights(name), expected)
