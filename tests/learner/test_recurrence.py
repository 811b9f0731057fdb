"""Compiled time loops against TensorFlow's, and both against differences of the function itself."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from fedlab.learner import _graph_scans, recurrence

compiled = pytest.importorskip(
    "fedlab.learner._compiled_scans",
    reason="numba is not installed: the compiled loops are an extra",
)


def _normal(rng, *shape):
    return tf.constant(rng.normal(size=shape).astype(np.float32))


# Sizes on and off the panels' borders; a single step; a single row.
SIZES = [(7, 3, 20), (5, 8, 64), (1, 4, 100), (6, 1, 257)]


@pytest.mark.parametrize("num_steps, num_rows, units", SIZES)
def test_gru_loops_agree(num_steps, num_rows, units):
    rng = np.random.default_rng(0)
    x, h0, dy = (
        _normal(rng, num_steps, num_rows, 3 * units),
        _normal(rng, num_rows, units),
        _normal(rng, num_steps, num_rows, units),
    )
    kernel, bias = _normal(rng, units, 3 * units) / units**0.5, _normal(rng, 3 * units)
    h, saved = _graph_scans.gru_forward(x, h0, kernel, bias)
    _assert_close(compiled.gru_forward(x, h0, kernel, bias), (h, saved))
    _assert_close(
        compiled.gru_backward(dy, h0, h, saved, kernel),
        _graph_scans.gru_backward(dy, h0, h, saved, kernel),
    )


@pytest.mark.parametrize("num_steps, num_rows, units", SIZES)
def test_lstm_loops_agree(num_steps, num_rows, units):
    rng = np.random.default_rng(0)
    x, h0, c0 = (
        _normal(rng, num_steps, num_rows, 4 * units),
        _normal(rng, num_rows, units),
        _normal(rng, num_rows, units),
    )
    dh, dc = _normal(rng, num_steps, num_rows, units), _normal(rng, num_steps, num_rows, units)
    kernel = _normal(rng, units, 4 * units) / units**0.5
    h, c, gates = _graph_scans.lstm_forward(x, h0, c0, kernel)
    _assert_close(compiled.lstm_forward(x, h0, c0, kernel), (h, c, gates))
    _assert_close(
        compiled.lstm_backward(dh, dc, c0, c, gates, kernel),
        _graph_scans.lstm_backward(dh, dc, c0, c, gates, kernel),
    )


@pytest.mark.slow
def test_loops_of_a_cpu_without_avx512_agree(tmp_path):
    script = """if True:
        from llvmlite import binding
        binding.get_host_cpu_features = binding.targets.FeatureMap
        from tests.learner import test_recurrence
        assert test_recurrence.compiled._WIDTH == 16
        for sizes in test_recurrence.SIZES:
            test_recurrence.test_gru_loops_agree(*sizes)
            test_recurrence.test_lstm_loops_agree(*sizes)
    """
    # A CPU's name without its features leaves out what this CPU has in addition.
    target = {"NUMBA_CPU_NAME": "haswell"} if platform.machine() == "x86_64" else {}
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={**os.environ, **target, "NUMBA_CACHE_DIR": str(tmp_path)},
    )


def _assert_close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=5e-6)


def test_tanh_is_exact_to_a_few_units_in_the_last_place():
    x = np.concatenate([np.linspace(-12, 12, 20001), [0.0, 1e-30, -1e-8, np.inf, -np.inf]]).astype(
        np.float32
    )
    error = np.array([compiled._tanh(value) for value in x]) - np.tanh(x.astype(np.float64))
    assert np.abs(error).max() < 5e-7


def test_compiled_loops_keep_what_is_not_finite():
    # A client whose weights or data are broken has to be found out: NaN may not be lost on the way.
    for value in (np.nan, np.inf):
        x = np.zeros((3, 1, 12), np.float32)
        x[1, 0, 0] = value if np.isnan(value) else 0
        kernel = tf.fill([4, 12], np.float32(value if np.isinf(value) else 0.1))
        h, _ = compiled.gru_forward(tf.constant(x), tf.ones([1, 4]), kernel, tf.zeros([12]))
        graph, _ = _graph_scans.gru_forward(tf.constant(x), tf.ones([1, 4]), kernel, tf.zeros([12]))
        np.testing.assert_array_equal(np.isnan(h.numpy()), np.isnan(graph.numpy()))
        assert np.isnan(h.numpy()).any() or np.isinf(value)


@pytest.mark.parametrize("num_rows", [2, recurrence._FEW_ROWS + 1])
@pytest.mark.parametrize("static", [True, False])
def test_either_form_gives_the_gradients_of_tensorflow(num_rows, static):
    """Few rows run compiled, many in TensorFlow, even if the number is known only at run time."""
    rng = np.random.default_rng(0)
    units = 5
    x, h0 = _normal(rng, 4, num_rows, 3 * units), _normal(rng, num_rows, units)
    kernel, bias = _normal(rng, units, 3 * units), _normal(rng, 3 * units)

    @tf.function(reduce_retracing=not static)
    def gradients(x, h0):
        with tf.GradientTape() as tape:
            tape.watch([x, h0, kernel, bias])
            loss = tf.reduce_sum(recurrence.gru_reset_after(x, h0, kernel, bias) ** 2)
        return tape.gradient(loss, [x, h0, kernel, bias])

    def steps(x, h0):
        with tf.GradientTape() as tape:
            tape.watch([x, h0, kernel, bias])
            h, loss = h0, 0.0
            for t in range(4):
                inner = h @ kernel + bias
                z, r = (
                    tf.sigmoid(x[t, :, :units] + inner[:, :units]),
                    tf.sigmoid(x[t, :, units : 2 * units] + inner[:, units : 2 * units]),
                )
                h = z * h + (1 - z) * tf.tanh(x[t, :, 2 * units :] + r * inner[:, 2 * units :])
                loss += tf.reduce_sum(h**2)
        return tape.gradient(loss, [x, h0, kernel, bias])

    if not static:
        specs = [tf.TensorSpec([None, None, 3 * units]), tf.TensorSpec([None, units])]
        gradients = gradients.get_concrete_function(*specs)
    _assert_close_relative(gradients(x, h0), steps(x, h0))


def _assert_close_relative(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert float(tf.reduce_max(tf.abs(a - e)) / tf.reduce_max(tf.abs(e))) < 5e-6
