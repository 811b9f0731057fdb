"""The local engine against TensorFlow Federated: the same weights, metrics and counts."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from fedlab.engines import local
from fedlab.engines import tff as tff_engine
from tests.engines.test_tff import CASES, weights_of

pytest.importorskip("tensorflow_federated")


def three_rounds(engine, setting):
    with contextlib.closing(engine.start(setting)) as process:
        state, results = process.init(*weights_of(setting.model)), []
        for round_num in range(3):
            state, result = process.run_round(state, round_num, ["c2", "c0", "c1"])
            results.append(result)
        return process.weights(state), results


@pytest.mark.parametrize("make", CASES)
def test_local_equals_tff(make):
    tf.keras.utils.set_random_seed(1)
    setting = make()
    (expected, kept), expected_results = three_rounds(tff_engine, setting)
    (trainable, non_trainable), results = three_rounds(local, setting)
    for value, other in zip(trainable + non_trainable, expected + kept):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-5 * np.abs(other).max())
    for result, other in zip(results, expected_results):
        assert list(result.metrics) == list(other.metrics)
        assert result.metrics == pytest.approx(other.metrics, rel=1e-5)
        for row, other_row in zip(result.clients, other.clients):
            assert list(row["metrics"]) == [name for name in result.metrics if name != "loss"]
            assert {
                **row,
                "loss": None,
                "metrics": {},
            } == other_row  # TFF reports neither per client
