"""The time loops of GRU and LSTM as machine code, compiled by numba.

A step of a time loop is a product of a few rows with a large matrix, followed by some
arithmetic per unit. TensorFlow rearranges the whole matrix for every such product and
runs a dozen operations per step. Here, the matrix is rearranged once per batch, into
panels of a few columns, and a whole loop is one call. Everything is float32 and runs in
the calling thread, without Python's global lock.

A product is computed in tiles of a few rows and the columns of a panel, whose sums fit
into vector registers. The arithmetic per unit is one loop per result, because the
compiler vectorizes a loop only if it has few pairs of arrays that might overlap.

Shapes and names are those of `recurrence`. The public functions return the same as
those of `_graph_scans`.
"""

import numba
import numpy as np
import tensorflow as tf
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.extending import intrinsic


def _has_avx512():
    try:
        return get_host_cpu_features().get("avx512f", False)
    except RuntimeError:  # LLVM does not know this kind of CPU
        return False


_ROWS = 4  # rows of a batch in a tile
# How many float32 numbers a vector register holds, and how many vectors make up a row of a
# tile. The sums of a tile occupy 16 of 32 registers with AVX-512, and 8 of 16 otherwise.
_LANES, _VECTORS = (16, 4) if _has_avx512() else (8, 2)
_WIDTH = _LANES * _VECTORS  # columns of a panel and of a tile

_ONE = np.float32(1.0)  # numba computes 1 - x in float64 if 1 is an int

# fastmath=True would change the meaning of NaN and infinity, which must be detected.
_compiled = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"}
)


@intrinsic
def _tile(context, rows, panel, out):
    """Computes out = rows @ panel as vector instructions.

    The compiler keeps the sums in memory if it arranges these loops by itself.

    Args:
      rows: [_ROWS, K] of float32, with K > 0.
      panel: [K, _WIDTH] of float32, contiguous.
      out: [_ROWS, _WIDTH] of float32. It does not overlap the others.
    """

    def generate(context, builder, signature, arguments):
        vector, index = ir.VectorType(ir.FloatType(), _LANES), ir.IntType(64)
        rows, panel, out = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, arguments)
        )

        def row(array, number):
            address = builder.ptrtoint(array.data, index)
            stride = builder.extract_value(array.strides, 0)
            address = builder.add(address, builder.mul(stride, index(number)))
            return builder.inttoptr(address, array.data.type)

        def vector_at(pointer, offset):
            return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

        def repeat(scalar):
            undefined = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
            return builder.shuffle_vector(first, undefined, zeros)

        left = [row(rows, r) for r in range(_ROWS)]
        before, loop = builder.block, builder.append_basic_block("tile")
        after = builder.append_basic_block("tile.end")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(index)
        sums = {(r, v): builder.phi(vector) for r in range(_ROWS) for v in range(_VECTORS)}
        line = builder.gep(panel.data, [builder.mul(k, index(_WIDTH))])
        right = [builder.load(vector_at(line, index(v * _LANES)), align=4) for v in range(_VECTORS)]
        totals = {}
        for r in range(_ROWS):
            factor = repeat(builder.load(builder.gep(left[r], [k])))
            for v in range(_VECTORS):
                product = builder.fmul(factor, right[v], flags=["contract"])
                totals[r, v] = builder.fadd(sums[r, v], product, flags=["contract"])
        k_after = builder.add(k, index(1))
        k.add_incoming(index(0), before)
        k.add_incoming(k_after, loop)
        for place, total in totals.items():
            sums[place].add_incoming(ir.Constant(vector, [0.0] * _LANES), before)
            sums[place].add_incoming(total, loop)
        num_steps = builder.extract_value(panel.shape, 0)
        builder.cbranch(builder.icmp_signed("<", k_after, num_steps), loop, after)
        builder.position_at_end(after)
        for (r, v), total in totals.items():
            builder.store(total, vector_at(row(out, r), index(v * _LANES)), align=4)
        return context.get_dummy_value()

    return numba.void(rows, panel, out), generate


@_compiled
def _panels(matrix):
    """Returns a matrix [K, N] as zero-padded panels, [N / _WIDTH, K, _WIDTH]."""
    num_panels = (matrix.shape[1] + _WIDTH - 1) // _WIDTH
    panels = np.zeros((num_panels, matrix.shape[0], _WIDTH), np.float32)
    for p in range(num_panels):
        columns = matrix[:, p * _WIDTH : (p + 1) * _WIDTH]
        panels[p, :, : columns.shape[1]] = columns
    return panels


@_compiled
def _rows_for(panels, num_rows):
    """Returns zeros for the left and right side of a product: [rows, K] and [rows, N].

    The number of rows is rounded up.
    """
    rows = (num_rows + _ROWS - 1) // _ROWS * _ROWS
    return np.zeros((rows, panels.shape[1]), np.float32), np.zeros(
        (rows, panels.shape[0] * _WIDTH), np.float32
    )


@_compiled
def _product(rows, panels, out):
    """Computes out = rows @ matrix, given the panels of the matrix."""
    for p in range(panels.shape[0]):
        for r in range(0, rows.shape[0], _ROWS):
            _tile(
                rows[r : r + _ROWS],
                panels[p],
                out[r : r + _ROWS, p * _WIDTH : (p + 1) * _WIDTH],
            )


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
def _gru_forward(x, h0, kernel, bias):
    num_steps, num_rows, units = x.shape[0], h0.shape[0], h0.shape[1]
    h = np.empty((num_steps, num_rows, units), np.float32)
    gates = np.empty((num_steps, num_rows, 4 * units), np.float32)
    panels = _panels(kernel)
    left, right = _rows_for(panels, num_rows)
    left[:num_rows, :units] = h0
    for t in range(num_steps):
        _product(left, panels, right)
        for b in range(num_rows):
            x_t, a, all_gates, state, after = x[t, b], right[b], gates[t, b], left[b], h[t, b]
            z, r, candidate, inner = all_gates.reshape(4, units)
            for j in range(2 * units):
                all_gates[j] = _sigmoid(x_t[j] + a[j] + bias[j])
            for j in range(units):
                inner[j] = a[2 * units + j] + bias[2 * units + j]
            for j in range(units):
                candidate[j] = _tanh(x_t[2 * units + j] + r[j] * inner[j])
            for j in range(units):
                after[j] = candidate[j] + z[j] * (state[j] - candidate[j])
            for j in range(units):
                state[j] = after[j]
    return h, gates


@_compiled
def _gru_backward(dy, h0, h, gates, kernel):
    num_steps, num_rows, units = h.shape
    d_inner = np.empty((num_steps, num_rows, 3 * units), np.float32)
    d_candidate = np.empty((num_steps, num_rows, units), np.float32)
    dh = np.zeros((num_rows, units), np.float32)
    panels = _panels(kernel.T)
    left, right = _rows_for(panels, num_rows)
    total = np.empty(units, np.float32)
    for step in range(num_steps):
        t = num_steps - 1 - step
        for b in range(num_rows):
            before = h[t - 1, b] if t > 0 else h0[b]
            z, r, candidate, inner = gates[t, b].reshape(4, units)
            d_z, d_r, d_n = d_inner[t, b].reshape(3, units)
            d, d_c, through, dy_t = dh[b], d_candidate[t, b], right[b], dy[t, b]
            for j in range(units):
                total[j] = d[j] + through[j] + dy_t[j]
            for j in range(units):
                d_c[j] = total[j] * (_ONE - z[j]) * (_ONE - candidate[j] * candidate[j])
            for j in range(units):
                d_z[j] = total[j] * (before[j] - candidate[j]) * z[j] * (_ONE - z[j])
            for j in range(units):
                d_r[j] = d_c[j] * inner[j] * r[j] * (_ONE - r[j])
            for j in range(units):
                d_n[j] = d_c[j] * r[j]
            for j in range(units):
                d[j] = total[j] * z[j]
        left[:num_rows, : 3 * units] = d_inner[t]
        _product(left, panels, right)
    return dh + right[:num_rows, :units], d_inner, d_candidate


@_compiled
def _lstm_forward(x, h0, c0, kernel):
    num_steps, num_rows, units = x.shape[0], h0.shape[0], h0.shape[1]
    h = np.empty((num_steps, num_rows, units), np.float32)
    c = np.empty((num_steps, num_rows, units), np.float32)
    gates = np.empty((num_steps, num_rows, 4 * units), np.float32)
    panels = _panels(kernel)
    left, right = _rows_for(panels, num_rows)
    left[:num_rows, :units] = h0
    for t in range(num_steps):
        _product(left, panels, right)
        for b in range(num_rows):
            x_t, a, all_gates, h_after, row = x[t, b], right[b], gates[t, b], h[t, b], left[b]
            before, after = c[t - 1, b] if t > 0 else c0[b], c[t, b]
            i, f, g, o = all_gates.reshape(4, units)
            for j in range(2 * units):
                all_gates[j] = _sigmoid(x_t[j] + a[j])
            for j in range(2 * units, 3 * units):
                all_gates[j] = _tanh(x_t[j] + a[j])
            for j in range(3 * units, 4 * units):
                all_gates[j] = _sigmoid(x_t[j] + a[j])
            for j in range(units):
                after[j] = f[j] * before[j] + i[j] * g[j]
            for j in range(units):
                h_after[j] = o[j] * _tanh(after[j])
            for j in range(units):
                row[j] = h_after[j]
    return h, c, gates


@_compiled
def _lstm_backward(dh_out, dc_out, c0, c, gates, kernel):
    num_steps, num_rows, units = c.shape
    d_pre = np.empty((num_steps, num_rows, 4 * units), np.float32)
    dc = np.zeros((num_rows, units), np.float32)
    panels = _panels(kernel.T)
    left, right = _rows_for(panels, num_rows)
    tanh_c, to_h, to_c = np.empty((3, units), np.float32)
    for step in range(num_steps):
        t = num_steps - 1 - step
        for b in range(num_rows):
            before, after = c[t - 1, b] if t > 0 else c0[b], c[t, b]
            i, f, g, o = gates[t, b].reshape(4, units)
            d_i, d_f, d_g, d_o = d_pre[t, b].reshape(4, units)
            dh, d, dh_t, dc_t = right[b], dc[b], dh_out[t, b], dc_out[t, b]
            for j in range(units):
                tanh_c[j] = _tanh(after[j])
            for j in range(units):
                to_h[j] = dh[j] + dh_t[j]
            for j in range(units):
                to_c[j] = d[j] + dc_t[j] + to_h[j] * o[j] * (_ONE - tanh_c[j] * tanh_c[j])
            for j in range(units):
                d_i[j] = to_c[j] * g[j] * i[j] * (_ONE - i[j])
            for j in range(units):
                d_f[j] = to_c[j] * before[j] * f[j] * (_ONE - f[j])
            for j in range(units):
                d_g[j] = to_c[j] * i[j] * (_ONE - g[j] * g[j])
            for j in range(units):
                d_o[j] = to_h[j] * tanh_c[j] * o[j] * (_ONE - o[j])
            for j in range(units):
                d[j] = to_c[j] * f[j]
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
    return _call(_gru_forward, [x, h0, kernel, bias], [None, None, units], [None, None, 4 * units])


def gru_backward(dy, h0, h, saved, kernel):
    units = h0.shape[1]
    return _call(
        _gru_backward,
        [dy, h0, h, saved, kernel],
        [None, units],
        [None, None, 3 * units],
        [None, None, units],
    )


def lstm_forward(x, h0, c0, kernel):
    units = h0.shape[1]
    return _call(
        _lstm_forward,
        [x, h0, c0, kernel],
        [None, None, units],
        [None, None, units],
        [None, None, 4 * units],
    )


def lstm_backward(dh_out, dc_out, c0, c, gates, kernel):
    units = c0.shape[1]
    return _call(
        _lstm_backward,
        [dh_out, dc_out, c0, c, gates, kernel],
        [None, units],
        [None, units],
        [None, None, 4 * units],
    )
