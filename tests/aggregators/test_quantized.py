"""Quantization: unbiased, on the grid, and as many bytes as it says."""

import numpy as np
import pytest
import tensorflow as tf

from fedlab.aggregators import mean, quantized
from fedlab.aggregators.quantized import decode, encode, quantize
from tests.aggregators.rounds import run_round


def test_by_hand():
    # Two bits: the levels 0, 1, 2, 3 of 0..3 are the values themselves; halves go up or down.
    delta, _, metrics = run_round(quantized(mean(), bits=2), [np.arange(100) % 4])
    np.testing.assert_array_equal(delta, np.arange(100) % 4)
    assert metrics == {"bytes_up": 100 * 2 / 8 + 8}
    delta, _, _ = run_round(quantized(mean(), bits=1), [[0.0, 1.0] + [0.25] * 30])
    assert set(delta) == {0.0, 1.0}


def test_unbiased_and_of_the_right_variance():
    values = np.linspace(-1, 2, 13).astype(np.float32)
    step = 3 / (2**2 - 1)
    draws = np.stack(
        [
            run_round(quantized(mean(), bits=2), [np.tile(values, 20)], round_num=r)[0].reshape(
                20, 13
            )
            for r in range(100)
        ]
    )
    draws = draws.reshape(-1, 13)  # 2,000 of each value
    share = (values + 1) / step % 1
    variance = step**2 * share * (1 - share)  # of a coin between the two neighbours
    standard_error = np.sqrt(variance / len(draws))
    assert (np.abs(draws.mean(axis=0) - values) <= 4 * standard_error + 1e-6).all()
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.15, atol=1e-6)
    # Of the mean of many clients' draws the error falls.
    delta, _, _ = run_round(quantized(mean(), bits=2), [np.tile(values, 20)] * 100)
    assert np.abs(delta - np.tile(values, 20)).max() < 5 * step / 2 / np.sqrt(100)


def test_draws_differ_by_client_and_round_and_not_by_anything_else():
    update = np.random.default_rng(0).normal(size=1000)
    one = lambda **options: run_round(quantized(mean(), 2), [update], **options)[0]  # noqa: E731
    np.testing.assert_array_equal(one(round_num=1), one(round_num=1))
    assert (one(round_num=1) != one(round_num=2)).any()
    both = run_round(quantized(mean(), 2), [update, update])[0]
    assert (both != one()).any()


@pytest.mark.parametrize("bits", [1, 3, 8, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_true_bytes(bits, dtype):
    update = np.random.default_rng(bits).normal(size=[23, 17]).astype(dtype)
    levels, low, step = quantize(tf.constant(update), bits, tf.constant([1, 2], tf.int64))
    assert levels.numpy().min() >= 0 and levels.numpy().max() <= 2**bits - 1
    data = encode(levels, low, step, bits)
    _, _, metrics = run_round(quantized(mean(), bits), [update] * 3, dtype=dtype)
    assert metrics["bytes_up"] == 3 * len(data)
    received = decode(data, update.shape, dtype, bits)
    np.testing.assert_array_equal(received, (low + step * levels).numpy())
    np.testing.assert_allclose(received, update, atol=1.001 * float(step))


def test_updates_that_would_not_get_smaller_are_not_quantized():
    for update in ([0.1, 0.2], [0.1]):
        delta, _, metrics = run_round(quantized(mean(), 8), [update])
        np.testing.assert_array_equal(delta, np.float32(update))
        assert metrics["bytes_up"] == 4 * len(update)


def test_equal_values_stay():
    np.testing.assert_array_equal(
        run_round(quantized(), [np.full(50, 0.3)])[0], np.full(50, np.float32(0.3))
    )


def test_clients_of_weight_0_send_no_bytes():
    assert (
        run_round(quantized(mean(), 8), [np.arange(100)] * 3, weights=[1.0, 0.0, 2.0])[2][
            "bytes_up"
        ]
        == 2 * 108
    )


@pytest.mark.parametrize("bits", [0, 17, 2.0, True])
def test_bad_arguments_raise_one_line_errors(bits):
    with pytest.raises(ValueError, match=f"bits={bits}: expected an integer between 1 and 16"):
        quantized(mean(), bits)
