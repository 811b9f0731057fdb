"""The time loops of GRU and LSTM as machine code, compiled by numba.

A step of a time loop is a product of a few rows with a large matrix, followed by some
arithmetic per unit. TensorFlow rearranges the whole matrix for every such product and
runs a dozen operations per step. Here, the matrix is rearranged once per batch, into
panels of columns that fit into the cache, and a whole loop is one call. Everything is
float32 and runs in the calling thread, without Python's global lock.

Shapes and names are those of `recurrence`. The public functions return the same as
those of `_graph_scans`.
"""

import numba
import numpy as np
import tensorflow as tf

_WIDE, _NARROW = 512, 256  # columns of a panel
_ROWS = 4  # rows of a batch, and of the matrix, in one pass over the columns of a panel

# fastmath=True would change the meaning of NaN and infinity, which must be detected.
_compiled = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"}
)


def _panels(matrix, transposed=False):
    """Returns a matrix [K, N] as zero-padded panels, [N / width, K, width].

    K and N / width are rounded up. With `transposed`, `matrix` is [N, K].
    """
    columns = 0 if transposed else 1
    width = _NARROW if matrix.shape[columns] <= _NARROW else _WIDE
    to_pad = [[0, -matrix.shape[0] % _ROWS], [0, -matrix.shape[1] % _ROWS]]
    to_pad[columns][1] = -matrix.shape[columns] % width
    padded = tf.pad(matrix, to_pad) if any(after for _, after in to_pad) else matrix
    if transposed:
        return tf.transpose(tf.reshape(padded, [-1, width, padded.shape[1]]), [0, 2, 1])
    return tf.transpose(tf.reshape(padded, [padded.shape[0], -1, width]), [1, 0, 2])


@_compiled
def _rows_for(panels, num_rows):
    """Returns zeros for the left and right side of a product: [rows, K] and [rows, N].

    The number of rows is rounded up.
    """
    rows = (num_rows + _ROWS - 1) // _ROWS * _ROWS
    return np.zeros((rows, panels.shape[1]), np.float32), np.zeros(
        (rows, panels.shape[0] * panels.shape[2]), np.float32
    )


def _product_with(width):
    """Returns the product for panels of a width that is known to the compiler."""

    @_compiled
    def product(rows, panels, out):
        sums = np.empty((rows.shape[0] // _ROWS, _ROWS * width), np.float32)
        for p in range(panels.shape[0]):
            sums[:] = 0.0
            for k in range(0, panels.shape[1], _ROWS):
                # With several arrays instead of one with constant offsets, the compiler
                # fails to prove that they do not overlap.
                m = panels[p, k : k + _ROWS].reshape(_ROWS * width)
                for g in range(sums.shape[0]):
                    s, r = sums[g], rows[g * _ROWS : (g + 1) * _ROWS, k : k + _ROWS]
                    a0, a1, a2, a3 = r[0, 0], r[0, 1], r[0, 2], r[0, 3]
                    b0, b1, b2, b3 = r[1, 0], r[1, 1], r[1, 2], r[1, 3]
                    c0, c1, c2, c3 = r[2, 0], r[2, 1], r[2, 2], r[2, 3]
                    d0, d1, d2, d3 = r[3, 0], r[3, 1], r[3, 2], r[3, 3]
                    for j in range(width):
                        m0, m1, m2, m3 = m[j], m[j + width], m[j + 2 * width], m[j + 3 * width]
                        s[j] += a0 * m0 + a1 * m1 + a2 * m2 + a3 * m3
                        s[j + width] += b0 * m0 + b1 * m1 + b2 * m2 + b3 * m3
                        s[j + 2 * width] += c0 * m0 + c1 * m1 + c2 * m2 + c3 * m3
                        s[j + 3 * width] += d0 * m0 + d1 * m1 + d2 * m2 + d3 * m3
            for b in range(rows.shape[0]):
                for j in range(width):
                    out[b, p * width + j] = sums[b // _ROWS, (b % _ROWS) * width + j]

    return product


_wide, _narrow = _product_with(_WIDE), _product_with(_NARROW)


@_compiled
def _product(rows, panels, out):
    """Computes out = rows @ matrix, given the panels of the matrix."""
    if panels.shape[2] == _WIDE:
        _wide(rows, panels, out)
    else:
        _narrow(rows, panels, out)


@_compiled
def _tanh(x):
    """tanh with an error of up to 4e-7, as a quotient of polynomials.

    The polynomials are fitted to 2e-8 on [-9, 9]. Beyond that, float32 tanh is -1 or 1.
    """
    x = np.float32(9.0) if x > np.float32(9.0) else x
    x = np.float32(-9.0) if x < np.float32(-9.0) else x
    s = x * x
    p = np.float32(1.3318758e-08)
    p = p * s + np.float32(2.0583249e-05)
    p = p * s + np.float32(3.4940203e-03)
    p = p * s + np.float32(1.3379706e-01)
    p = p * s + np.float32(1.0)
    q = np.float32(7.7618890e-07)
    q = q * s + np.float32(3.2830696e-04)
    q = q * s + np.float32(2.5871019e-02)
    q = q * s + np.float32(4.6713021e-01)
    q = q * s + np.float32(1.0)
    return x * p / q


@_compiled
def _sigmoid(x):
    return np.float32(0.5) * _tanh(np.float32(0.5) * x) + np.float32(0.5)


@_compiled
def _gru_forward(x, h0, bias, panels):
    num_steps, num_rows, units = x.shape[0], h0.shape[0], h0.shape[1]
    h = np.empty((num_steps, num_rows, units), np.float32)
    gates = np.empty((num_steps, num_rows, 4 * units), np.float32)
    left, inner = _rows_for(panels, num_rows)
    left[:num_rows, :units] = h0
    for t in range(num_steps):
        _product(left, panels, inner)
        for b in range(num_rows):
            x_t, a, g, before, after = x[t, b], inner[b], gates[t, b], left[b], h[t, b]
            for j in range(2 * units):
                g[j] = _sigmoid(x_t[j] + a[j] + bias[j])
            for j in range(units):
                g[3 * units + j] = a[2 * units + j] + bias[2 * units + j]
            for j in range(units):
                g[2 * units + j] = _tanh(x_t[2 * units + j] + g[units + j] * g[3 * units + j])
            for j in range(units):
                after[j] = g[2 * units + j] + g[j] * (before[j] - g[2 * units + j])
            for j in range(units):
                before[j] = after[j]
    return h, gates


@_compiled
def _gru_backward(dy, h0, h, gates, panels):
    num_steps, num_rows, units = h.shape
    d_inner = np.empty((num_steps, num_rows, 3 * units), np.float32)
    d_candidate = np.empty((num_steps, num_rows, units), np.float32)
    dh = np.zeros((num_rows, units), np.float32)
    left, right = _rows_for(panels, num_rows)
    for i in range(num_steps):
        t = num_steps - 1 - i
        for b in range(num_rows):
            g, before = gates[t, b], h[t - 1, b] if t > 0 else h0[b]
            d, out, d_c, through, to_y = dh[b], d_inner[t, b], d_candidate[t, b], right[b], dy[t, b]
            for j in range(units):
                z, r, c, inner = g[j], g[units + j], g[2 * units + j], g[3 * units + j]
                total = d[j] + through[j] + to_y[j]
                to_candidate = total * (1 - z) * (1 - c * c)
                out[j] = total * (before[j] - c) * z * (1 - z)
                out[units + j] = to_candidate * inner * r * (1 - r)
                out[2 * units + j] = to_candidate * r
                d_c[j] = to_candidate
                d[j] = total * z
        left[:num_rows, : 3 * units] = d_inner[t]
        _product(left, panels, right)
    return dh + right[:num_rows, :units], d_inner, d_candidate


@_compiled
def _lstm_forward(x, h0, c0, panels):
    num_steps, num_rows, units = x.shape[0], h0.shape[0], h0.shape[1]
    h = np.empty((num_steps, num_rows, units), np.float32)
    c = np.empty((num_steps, num_rows, units), np.float32)
    gates = np.empty((num_steps, num_rows, 4 * units), np.float32)
    left, inner = _rows_for(panels, num_rows)
    left[:num_rows, :units] = h0
    for t in range(num_steps):
        _product(left, panels, inner)
        for b in range(num_rows):
            x_t, a, g, c_before, c_after, h_after, row = (
                x[t, b],
                inner[b],
                gates[t, b],
                c[t - 1, b] if t > 0 else c0[b],
                c[t, b],
                h[t, b],
                left[b],
            )
            for j in range(2 * units):
                g[j] = _sigmoid(x_t[j] + a[j])
            for j in range(2 * units, 3 * units):
                g[j] = _tanh(x_t[j] + a[j])
            for j in range(3 * units, 4 * units):
                g[j] = _sigmoid(x_t[j] + a[j])
            for j in range(units):
                c_after[j] = g[units + j] * c_before[j] + g[j] * g[2 * units + j]
            for j in range(units):
                h_after[j] = g[3 * units + j] * _tanh(c_after[j])
            for j in range(units):
                row[j] = h_after[j]
    return h, c, gates


@_compiled
def _lstm_backward(dh_out, dc_out, c0, c, gates, panels):
    num_steps, num_rows, units = c.shape
    d_pre = np.empty((num_steps, num_rows, 4 * units), np.float32)
    dc = np.zeros((num_rows, units), np.float32)
    left, right = _rows_for(panels, num_rows)
    for i in range(num_steps):
        t = num_steps - 1 - i
        for b in range(num_rows):
            g, c_t, c_before = gates[t, b], c[t, b], c[t - 1, b] if t > 0 else c0[b]
            dh, d, out, to_h, to_c = right[b], dc[b], d_pre[t, b], dh_out[t, b], dc_out[t, b]
            for j in range(units):
                i_, f, candidate, o, tanh_c = (
                    g[j],
                    g[units + j],
                    g[2 * units + j],
                    g[3 * units + j],
                    _tanh(c_t[j]),
                )
                total_h = dh[j] + to_h[j]
                total_c = d[j] + to_c[j] + total_h * o * (1 - tanh_c * tanh_c)
                out[j] = total_c * candidate * i_ * (1 - i_)
                out[units + j] = total_c * c_before[j] * f * (1 - f)
                out[2 * units + j] = total_c * i_ * (1 - candidate * candidate)
                out[3 * units + j] = total_h * tanh_c * o * (1 - o)
                d[j] = total_c * f
        left[:num_rows, : 4 * units] = d_pre[t]
        _product(left, panels, right)
    return right[:num_rows, :units].copy(), dc, d_pre


def _call(function, arguments, *shapes):
    """Returns the results of a compiled function in a graph.

    Args:
      function: the compiled function.
      arguments: tensors.
      *shapes: the shapes of the results.
    """
    outputs = tf.numpy_function(function, arguments, [tf.float32] * len(shapes), stateful=False)
    for output, shape in zip(outputs, shapes):
        output.set_shape(shape)
    return tuple(outputs)


def gru_forward(x, h0, kernel, bias):
    units = h0.shape[1]
    return _call(
        _gru_forward, [x, h0, bias, _panels(kernel)], [None, None, units], [None, None, 4 * units]
    )


def gru_backward(dy, h0, h, saved, kernel):
    units = h0.shape[1]
    arguments = [dy, h0, h, saved, _panels(kernel, transposed=True)]
    return _call(
        _gru_backward, arguments, [None, units], [None, None, 3 * units], [None, None, units]
    )


def lstm_forward(x, h0, c0, kernel):
    units = h0.shape[1]
    return _call(
        _lstm_forward,
        [x, h0, c0, _panels(kernel)],
        [None, None, units],
        [None, None, units],
        [None, None, 4 * units],
    )


def lstm_backward(dh_out, dc_out, c0, c, gates, kernel):
    units = c0.shape[1]
    arguments = [dh_out, dc_out, c0, c, gates, _panels(kernel, transposed=True)]
    return _call(_lstm_backward, arguments, [None, units], [None, units], [None, None, 4 * units])
