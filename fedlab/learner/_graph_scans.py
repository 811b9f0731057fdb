"""The time loops of GRU and LSTM as TensorFlow graphs.

There is one product per step, and gate derivatives are computed for all steps at once.
Shapes and names are those of `recurrence`. Each forward loop also returns the values
that its backward loop needs.
"""

import tensorflow as tf


def _loop(num_steps, body, state, outputs, reverse=False):
    """Runs `state, out = body(t, *state)` over time and stacks the outputs.

    Args:
      num_steps: T.
      body: the step.
      state: the initial state.
      outputs: the shapes of the tensors in `out`.
      reverse: whether t goes from T - 1 to 0.

    Returns:
      (the last state, the outputs [T, ...]).
    """
    arrays = [tf.TensorArray(tf.float32, size=num_steps, element_shape=shape) for shape in outputs]

    def step(i, state, arrays):
        t = num_steps - 1 - i if reverse else i
        state, out = body(t, *state)
        return i + 1, state, [array.write(t, value) for array, value in zip(arrays, out)]

    _, state, arrays = tf.while_loop(
        lambda i, *_: i < num_steps, step, (0, state, arrays), parallel_iterations=1
    )
    return state, [array.stack() for array in arrays]


def _before(first, sequence):
    return tf.concat([first[None], sequence[:-1]], axis=0)


def gru_forward(x, h0, kernel, bias):
    """Returns hidden states, [T, B, units], and saved values, [T, B, 4 * units].

    The saved values are z, r, the candidate, and its part of the recurrent product.
    """
    units = h0.shape[-1]

    def forward(t, h):
        x_t = x[t]
        inner = tf.matmul(h, kernel) + bias
        gates = tf.sigmoid(x_t[:, : 2 * units] + inner[:, : 2 * units])
        z, r = gates[:, :units], gates[:, units:]
        inner_h = inner[:, 2 * units :]
        candidate = tf.tanh(x_t[:, 2 * units :] + r * inner_h)
        h = candidate + z * (h - candidate)
        return (h,), (h, tf.concat([gates, candidate, inner_h], axis=-1))

    _, (h, saved) = _loop(tf.shape(x)[0], forward, (h0,), ([None, units], [None, 4 * units]))
    return h, saved


def gru_backward(dy, h0, h, saved, kernel):
    """Returns the gradients of h0, the recurrent product and the candidate's input.

    Their shapes are [B, units], [T, B, 3 * units] and [T, B, units].
    """
    units = h0.shape[-1]
    z, r, candidate, inner_h = tf.split(saved, 4, axis=-1)
    to_candidate = (1 - z) * (1 - candidate * candidate)
    to_z = (_before(h0, h) - candidate) * z * (1 - z)
    to_r = to_candidate * inner_h * r * (1 - r)
    # d(recurrent product) / d(h), for all steps: [T, B, 3, units]
    factors = tf.stack([to_z, to_r, to_candidate * r], axis=2)
    kernel_t = tf.transpose(kernel)

    def backward(t, dh):
        dh = dh + dy[t]
        d_inner = tf.reshape(dh[:, None, :] * factors[t], [-1, 3 * units])
        return (dh * z[t] + tf.matmul(d_inner, kernel_t),), (dh,)

    (dh0,), (dh,) = _loop(
        tf.shape(dy)[0], backward, (tf.zeros_like(h0),), ([None, units],), reverse=True
    )
    d_inner = tf.reshape(dh[:, :, None, :] * factors, [tf.shape(dy)[0], -1, 3 * units])
    return dh0, d_inner, dh * to_candidate


def gru_before_forward(x, h0, kernel):
    """Returns the same as `gru_forward`, for `reset_after=False`.

    The saved values are z, r and the candidate, [T, B, 3 * units].
    """
    units = h0.shape[-1]
    kernel_gates, kernel_h = kernel[:, : 2 * units], kernel[:, 2 * units :]

    def forward(t, h):
        x_t = x[t]
        gates = tf.sigmoid(x_t[:, : 2 * units] + tf.matmul(h, kernel_gates))
        z, r = gates[:, :units], gates[:, units:]
        candidate = tf.tanh(x_t[:, 2 * units :] + tf.matmul(r * h, kernel_h))
        h = candidate + z * (h - candidate)
        return (h,), (h, tf.concat([gates, candidate], axis=-1))

    _, (h, saved) = _loop(tf.shape(x)[0], forward, (h0,), ([None, units], [None, 3 * units]))
    return h, saved


def gru_before_backward(dy, h0, h, saved, kernel):
    """Returns the gradients of h0 and of the gates' inputs, [T, B, 3 * units]."""
    units = h0.shape[-1]
    z, r, candidate = tf.split(saved, 3, axis=-1)
    to_candidate = (1 - z) * (1 - candidate * candidate)
    h_before = _before(h0, h)
    to_z = (h_before - candidate) * z * (1 - z)
    to_r = h_before * r * (1 - r)
    kernel_gates_t = tf.transpose(kernel[:, : 2 * units])
    kernel_h_t = tf.transpose(kernel[:, 2 * units :])

    def backward(t, dh):
        dh = dh + dy[t]
        d_candidate = dh * to_candidate[t]
        d_reset_h = tf.matmul(d_candidate, kernel_h_t)
        d_gates = tf.concat([dh * to_z[t], d_reset_h * to_r[t]], axis=-1)
        dh_before = dh * z[t] + d_reset_h * r[t] + tf.matmul(d_gates, kernel_gates_t)
        return (dh_before,), (tf.concat([d_gates, d_candidate], axis=-1),)

    (dh0,), (dx,) = _loop(
        tf.shape(dy)[0], backward, (tf.zeros_like(h0),), ([None, 3 * units],), reverse=True
    )
    return dh0, dx


def lstm_forward(x, h0, c0, kernel):
    """Returns hidden states, cell states and gates.

    Their shapes are [T, B, units], [T, B, units] and [T, B, 4 * units]. The gates are
    i, f, the candidate and o.
    """
    units = h0.shape[-1]

    def forward(t, h, c):
        pre = x[t] + tf.matmul(h, kernel)
        i_f = tf.sigmoid(pre[:, : 2 * units])
        g = tf.tanh(pre[:, 2 * units : 3 * units])
        o = tf.sigmoid(pre[:, 3 * units :])
        c = i_f[:, units:] * c + i_f[:, :units] * g
        h = o * tf.tanh(c)
        return (h, c), (h, c, tf.concat([i_f, g, o], axis=-1))

    _, (h, c, gates) = _loop(
        tf.shape(x)[0], forward, (h0, c0), ([None, units], [None, units], [None, 4 * units])
    )
    return h, c, gates


def lstm_backward(dh_out, dc_out, c0, c, gates, kernel):
    """Returns the gradients of h0, of c0, and of the gates' inputs, [T, B, 4 * units]."""
    units = c0.shape[-1]
    i, f, g, o = tf.split(gates, 4, axis=-1)
    tanh_c = tf.tanh(c)
    h_to_c = o * (1 - tanh_c * tanh_c)
    h_to_o = tanh_c * o * (1 - o)
    # d(inputs of the gates) / d(c), for all steps: [T, B, 3, units]
    factors = tf.stack([g * i * (1 - i), _before(c0, c) * f * (1 - f), i * (1 - g * g)], axis=2)
    kernel_t = tf.transpose(kernel)

    def backward(t, dh, dc):
        dh = dh + dh_out[t]
        dc = dc + dc_out[t] + dh * h_to_c[t]
        d_pre = tf.concat(
            [tf.reshape(dc[:, None, :] * factors[t], [-1, 3 * units]), dh * h_to_o[t]], axis=-1
        )
        return (tf.matmul(d_pre, kernel_t), dc * f[t]), (d_pre,)

    zeros = tf.zeros_like(c0)
    (dh0, dc0), (d_pre,) = _loop(
        tf.shape(dh_out)[0], backward, (zeros, zeros), ([None, 4 * units],), reverse=True
    )
    return dh0, dc0, d_pre
