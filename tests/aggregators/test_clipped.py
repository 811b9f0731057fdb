"""Clipping and zeroing, worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from fedlab.aggregators import adaptive, clipped, differentially_private, mean, quantized, zeroed
from tests.aggregators.rounds import run_round


def test_clipping_by_hand():
    # Norms 5 and 1: the first becomes (3, 4) * 2 / 5.
    delta, _, metrics = run_round(clipped(mean(), 2.0), [[3.0, 4.0], [0.0, 1.0]])
    np.testing.assert_allclose(delta, [0.6, 1.3], rtol=1e-6)
    assert metrics == {"clip_norm": 2.0, "clipped_fraction": 0.5}
    # Weights stay: (1.2, 1.6) counts three times.
    delta, _, _ = run_round(clipped(mean(), 2.0), [[3.0, 4.0], [0.0, 1.0]], weights=[3.0, 1.0])
    np.testing.assert_allclose(delta, [0.9, 1.45], rtol=1e-6)


def test_the_norm_is_that_of_all_tensors_together():
    aggregator, weights = clipped(mean(), 6.5), [tf.zeros([2]), tf.zeros([1, 1])]
    state = aggregator.init(weights)
    delta = [tf.constant([3.0, 4.0]), tf.constant([[12.0]])]  # of norm 13
    accumulator = aggregator.accumulate(
        state, aggregator.zero(state, weights), delta, tf.ones([]), tf.zeros([2], tf.int64)
    )
    delta, _, _ = aggregator.report(state, accumulator, tf.zeros([2], tf.int64))
    np.testing.assert_allclose(
        np.concatenate([d.numpy().ravel() for d in delta]), [1.5, 2.0, 6.0], rtol=1e-6
    )


def test_updates_within_the_norm_keep_their_bits():
    update = np.random.default_rng(0).normal(size=100).astype(np.float32)
    np.testing.assert_array_equal(
        run_round(clipped(mean(), 100.0), [update])[0], run_round(mean(), [update])[0]
    )


def test_adaptive_norm_of_andrew_et_al():
    # Both updates are above: b = 0, C exp(eta * gamma).
    aggregator = clipped(mean(), adaptive(3.14159, 0.61803, 2.71828))
    _, state, metrics = run_round(aggregator, [[10.0, 0.0], [0.0, 10.0]])
    assert metrics["clip_norm"] == pytest.approx(3.14159, rel=1e-7)
    _, _, metrics = run_round(aggregator, [[1.0, 1.0]], state=state)
    assert metrics["clip_norm"] == pytest.approx(3.14159 * math.exp(0.61803 * 2.71828), rel=1e-6)
    assert 0.61803 * 2.71828 == pytest.approx(1.68, abs=1e-4)


@pytest.mark.slow
def test_adaptive_norm_finds_the_quantile():
    updates = [[float(norm), 0.0] for norm in range(1, 11)]
    aggregator, state = clipped(mean(), adaptive(0.01, 0.75, 0.2)), None
    for round_num in range(200):
        _, state, metrics = run_round(aggregator, updates, state=state, round_num=round_num)
    assert 7 * 0.95 < metrics["clip_norm"] < 8 * 1.05  # between .7 and .8 of the clients are below


def test_clients_of_weight_0_do_not_adapt_the_norm():
    aggregator = clipped(mean(), adaptive(1.0, 0.5, 1.0))
    _, state, metrics = run_round(aggregator, [[5.0], [0.0]], weights=[1.0, 0.0])
    assert metrics["clipped_fraction"] == 1.0
    assert float(state.estimate) == pytest.approx(math.exp(0.5), rel=1e-6)
    _, state, _ = run_round(aggregator, [[0.0], [0.0]], weights=[0.0, 0.0], state=state)
    assert float(state.estimate) == pytest.approx(math.exp(0.5), rel=1e-6)


def test_zeroing_by_hand():
    # The largest value counts, not the norm; the weight of the zeroed client stays.
    delta, _, metrics = run_round(
        zeroed(mean(), 4.0), [[4.0, -4.0], [0.0, -4.5]], weights=[1.0, 3.0]
    )
    np.testing.assert_allclose(delta, [1.0, -1.0], rtol=1e-6)
    assert metrics == {"zero_norm": 4.0, "zeroed_count": 1.0}


def test_default_zeroing_norm_by_hand():
    # 2 * 10 + 1 at first; all are below 10: C = 10 exp(-ln(10) * (1 - .98)) = 10^.98.
    _, state, metrics = run_round(zeroed(), [[9.0], [-10.0]])
    assert metrics == {"zero_norm": 21.0, "zeroed_count": 0.0}
    _, state, metrics = run_round(zeroed(), [[100.0]], state=state)
    assert metrics["zero_norm"] == pytest.approx(2 * 10**0.98 + 1, rel=1e-6)
    assert metrics["zeroed_count"] == 1.0
    # That one was above: C = 10^.98 * 10^.98.
    assert float(state.estimate) == pytest.approx(10**1.96, rel=1e-5)


def test_zeroing_saves_clipping_from_broken_clients():
    aggregator = zeroed(clipped(mean(), 1.0), 50.0)
    delta, _, metrics = run_round(aggregator, [[1e30, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(delta, [0.0, 0.25], rtol=1e-6)
    assert metrics == {
        "zero_norm": 50.0,
        "zeroed_count": 1.0,
        "clip_norm": 1.0,
        "clipped_fraction": 0.0,
    }


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: clipped(mean(), 0.0),
            "norm=0.0: expected a number above 0, or fedlab.aggregators.adaptive",
        ),
        (lambda: clipped(mean(), "big"), "norm='big'"),
        (lambda: zeroed(mean(), float("nan")), "norm=nan"),
        (lambda: adaptive(0.0), "initial=0.0: expected a number above 0"),
        (lambda: adaptive(1.0, 1.5), "quantile=1.5: expected a number between 0 and 1"),
        (lambda: adaptive(1.0, 0.5, -1.0), "learning_rate=-1.0: expected a number of at least 0"),
        (
            lambda: clipped(quantized(differentially_private(1.0, 100, 1000))),
            "number for clipped around .* voids the privacy guarantee",
        ),
        (
            lambda: zeroed(differentially_private(1.0, 100, 1000)),
            "number for zeroed around .* voids the privacy guarantee",
        ),
    ],
)
def test_bad_arguments_raise_one_line_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
