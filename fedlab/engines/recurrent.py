"""Plain GRU and LSTM layers in a mathematically equal, faster form.

Keras multiplies the input by its kernel inside the time loop and lets automatic differentiation accumulate the gradient of the
recurrent kernel step by step. Here the input projection is one product before the loop, the gate derivatives are computed for all
steps at once, and the gradient of the recurrent kernel is one product after the loop. Weights keep Keras's layout.

Only layers whose options leave the mathematics unchanged are taken (see `is_plain`); every other layer, and every call with a mask or
an initial state, runs Keras's own code.
"""

import contextlib

import tensorflow as tf


def _scan(num_steps, body, state, outputs, reverse=False):
    """Runs `state, out = body(t, *state)` over time and stacks each of the `outputs` tensors a step gives: [T, ...]."""
    arrays = [tf.TensorArray(tf.float32, size=num_steps, element_shape=shape) for shape in outputs]

    def step(i, state, arrays):
        t = num_steps - 1 - i if reverse else i
        state, out = body(t, *state)
        return i + 1, state, [array.write(t, value) for array, value in zip(arrays, out)]

    _, state, arrays = tf.while_loop(lambda i, *_: i < num_steps, step, (0, state, arrays), parallel_iterations=1)
    return state, [array.stack() for array in arrays]


def _rows(x):
    """[T, B, n] as [T * B, n]."""
    return tf.reshape(x, [-1, x.shape[-1]])


def _before(first, sequence):
    """The values one step earlier: [first, sequence[0], ..., sequence[T - 2]]."""
    return tf.concat([first[None], sequence[:-1]], axis=0)


@tf.custom_gradient
def gru_reset_after(x, h0, kernel, bias):
    """Hidden states of a GRU whose reset gate acts after the recurrent product (Keras's default).

    Args:
      x: projected inputs, input bias included, [T, B, 3 * units] in Keras's gate order (update z, reset r, candidate).
      h0: initial state, [B, units].
      kernel: recurrent kernel, [units, 3 * units].
      bias: recurrent bias, [3 * units].

    Returns:
      All hidden states, [T, B, units].
    """
    units = h0.shape[-1]
    num_steps = tf.shape(x)[0]

    def forward(t, h):
        x_t = x[t]
        inner = tf.matmul(h, kernel) + bias
        gates = tf.sigmoid(x_t[:, : 2 * units] + inner[:, : 2 * units])
        z, r = gates[:, :units], gates[:, units:]
        inner_h = inner[:, 2 * units :]
        candidate = tf.tanh(x_t[:, 2 * units :] + r * inner_h)
        h = candidate + z * (h - candidate)
        return (h,), (h, gates, candidate, inner_h)

    one, two = [None, units], [None, 2 * units]
    _, (h, gates, candidate, inner_h) = _scan(num_steps, forward, (h0,), (one, two, one, one))

    def grad(dy):
        z, r = gates[..., :units], gates[..., units:]
        h_before = _before(h0, h)
        to_candidate = (1 - z) * (1 - candidate * candidate)
        to_z = (h_before - candidate) * z * (1 - z)
        to_r = to_candidate * inner_h * r * (1 - r)
        # d(recurrent product) / d(h), for all steps: [T, B, 3, units]
        factors = tf.stack([to_z, to_r, to_candidate * r], axis=2)
        kernel_t = tf.transpose(kernel)

        def backward(t, dh):
            dh = dh + dy[t]
            d_inner = tf.reshape(dh[:, None, :] * factors[t], [-1, 3 * units])
            return (dh * z[t] + tf.matmul(d_inner, kernel_t),), (dh,)

        (dh0,), (dh,) = _scan(num_steps, backward, (tf.zeros_like(h0),), (one,), reverse=True)
        d_inner = tf.reshape(dh[:, :, None, :] * factors, tf.shape(x))
        dx = tf.concat([d_inner[..., : 2 * units], dh * to_candidate], axis=-1)
        d_kernel = tf.matmul(_rows(h_before), _rows(d_inner), transpose_a=True)
        return dx, dh0, d_kernel, tf.reduce_sum(d_inner, axis=[0, 1])

    return h, grad


@tf.custom_gradient
def gru_reset_before(x, h0, kernel):
    """As `gru_reset_after`, for `reset_after=False`: the reset gate acts on the state before the recurrent product."""
    units = h0.shape[-1]
    num_steps = tf.shape(x)[0]
    kernel_gates, kernel_h = kernel[:, : 2 * units], kernel[:, 2 * units :]

    def forward(t, h):
        x_t = x[t]
        gates = tf.sigmoid(x_t[:, : 2 * units] + tf.matmul(h, kernel_gates))
        z, r = gates[:, :units], gates[:, units:]
        candidate = tf.tanh(x_t[:, 2 * units :] + tf.matmul(r * h, kernel_h))
        h = candidate + z * (h - candidate)
        return (h,), (h, gates, candidate)

    one, two = [None, units], [None, 2 * units]
    _, (h, gates, candidate) = _scan(num_steps, forward, (h0,), (one, two, one))

    def grad(dy):
        z, r = gates[..., :units], gates[..., units:]
        h_before = _before(h0, h)
        to_candidate = (1 - z) * (1 - candidate * candidate)
        to_z = (h_before - candidate) * z * (1 - z)
        to_r = h_before * r * (1 - r)
        kernel_gates_t, kernel_h_t = tf.transpose(kernel_gates), tf.transpose(kernel_h)

        def backward(t, dh):
            dh = dh + dy[t]
            d_candidate = dh * to_candidate[t]
            d_reset_h = tf.matmul(d_candidate, kernel_h_t)
            d_gates = tf.concat([dh * to_z[t], d_reset_h * to_r[t]], axis=-1)
            dh_before = dh * z[t] + d_reset_h * r[t] + tf.matmul(d_gates, kernel_gates_t)
            return (dh_before,), (d_gates, d_candidate)

        (dh0,), (d_gates, d_candidate) = _scan(num_steps, backward, (tf.zeros_like(h0),), (two, one), reverse=True)
        d_kernel = tf.concat(
            [
                tf.matmul(_rows(h_before), _rows(d_gates), transpose_a=True),
                tf.matmul(_rows(r * h_before), _rows(d_candidate), transpose_a=True),
            ],
            axis=-1,
        )
        return tf.concat([d_gates, d_candidate], axis=-1), dh0, d_kernel

    return h, grad


@tf.custom_gradient
def lstm(x, h0, c0, kernel):
    """Hidden states and the cell state of an LSTM.

    Args:
      x: projected inputs, bias included, [T, B, 4 * units] in Keras's gate order (input i, forget f, candidate g, output o).
      h0, c0: initial states, [B, units].
      kernel: recurrent kernel, [units, 4 * units].

    Returns:
      All hidden states and all cell states, both [T, B, units].
    """
    units = h0.shape[-1]
    num_steps = tf.shape(x)[0]

    def forward(t, h, c):
        pre = x[t] + tf.matmul(h, kernel)
        i_f = tf.sigmoid(pre[:, : 2 * units])
        g = tf.tanh(pre[:, 2 * units : 3 * units])
        o = tf.sigmoid(pre[:, 3 * units :])
        c = i_f[:, units:] * c + i_f[:, :units] * g
        h = o * tf.tanh(c)
        return (h, c), (h, c, i_f, g, o)

    one, two = [None, units], [None, 2 * units]
    _, (h, c, i_f, g, o) = _scan(num_steps, forward, (h0, c0), (one, one, two, one, one))

    def grad(dh_out, dc_out):
        i, f = i_f[..., :units], i_f[..., units:]
        tanh_c = tf.tanh(c)
        h_to_c = o * (1 - tanh_c * tanh_c)
        h_to_o = tanh_c * o * (1 - o)
        # d(pre-activations) / d(c), for all steps: [T, B, 3, units]
        factors = tf.stack([g * i * (1 - i), _before(c0, c) * f * (1 - f), i * (1 - g * g)], axis=2)
        kernel_t = tf.transpose(kernel)

        def backward(t, dh, dc):
            dh = dh + dh_out[t]
            dc = dc + dc_out[t] + dh * h_to_c[t]
            d_pre = tf.concat([tf.reshape(dc[:, None, :] * factors[t], [-1, 3 * units]), dh * h_to_o[t]], axis=-1)
            return (tf.matmul(d_pre, kernel_t), dc * f[t]), (d_pre,)

        zeros = tf.zeros_like(h0)
        (dh0, dc0), (d_pre,) = _scan(num_steps, backward, (zeros, zeros), ([None, 4 * units],), reverse=True)
        d_kernel = tf.matmul(_rows(_before(h0, h)), _rows(d_pre), transpose_a=True)
        return d_pre, dh0, dc0, d_kernel

    return (h, c), grad


def is_plain(layer):
    """Whether the fast form is mathematically the same as `layer`: a Keras GRU or LSTM with its default mathematics."""
    return (
        type(layer) in (tf.keras.layers.GRU, tf.keras.layers.LSTM)
        and layer.activation is tf.keras.activations.tanh
        and layer.recurrent_activation is tf.keras.activations.sigmoid
        and layer.dropout == 0
        and layer.recurrent_dropout == 0
        and not (layer.go_backwards or layer.time_major or layer.unroll)
        and layer.compute_dtype == "float32"
    )


def _fast_call(layer, inputs, mask=None, training=None, initial_state=None, **kwargs):
    if mask is not None or initial_state is not None or kwargs or isinstance(inputs, (list, tuple, tf.RaggedTensor)):
        return type(layer).call(layer, inputs, mask=mask, training=training, initial_state=initial_state, **kwargs)
    cell = layer.cell
    kernel = tf.convert_to_tensor(cell.recurrent_kernel)
    x = tf.transpose(inputs, [1, 0, 2])  # [T, B, features]
    x = tf.reshape(tf.matmul(_rows(x), cell.kernel), [tf.shape(x)[0], tf.shape(x)[1], kernel.shape[1]])
    if layer.stateful:
        state = [tf.convert_to_tensor(s) for s in tf.nest.flatten(layer.states)]
    else:
        state = [tf.zeros([tf.shape(inputs)[0], layer.units])] * (2 if isinstance(layer, tf.keras.layers.LSTM) else 1)

    if isinstance(layer, tf.keras.layers.LSTM):
        h, c = lstm(x + cell.bias if layer.use_bias else x, *state, kernel)
        last = [h[-1], c[-1]]
    elif layer.reset_after:
        bias = tf.unstack(cell.bias) if layer.use_bias else [tf.zeros([3 * layer.units])] * 2
        h = gru_reset_after(x + bias[0], *state, kernel, bias[1])
        last = [h[-1]]
    else:
        h = gru_reset_before(x + cell.bias if layer.use_bias else x, *state, kernel)
        last = [h[-1]]

    if layer.stateful:
        for variable, value in zip(tf.nest.flatten(layer.states), last):
            variable.assign(value)
    output = tf.transpose(h, [1, 0, 2]) if layer.return_sequences else last[0]
    output.set_shape([inputs.shape[0], inputs.shape[1], layer.units] if layer.return_sequences else [inputs.shape[0], layer.units])
    return [output, *last] if layer.return_state else output


def _plain_layers(model):
    return [layer for layer in model._flatten_layers(include_self=False) if is_plain(layer)]


def accelerate(model):
    """Makes the plain recurrent layers of `model`, nested ones included, run in the fast form from their next call on.

    Returns:
      The names of the layers changed; `restore` undoes it. Saving is not affected: weights and configuration stay Keras's own.
    """
    layers = _plain_layers(model)
    for layer in layers:
        layer.call = lambda inputs, layer=layer, **kwargs: _fast_call(layer, inputs, **kwargs)
    return [layer.name for layer in layers]


def restore(model):
    """Undoes `accelerate`."""
    for layer in _plain_layers(model):
        layer.__dict__.pop("call", None)


@contextlib.contextmanager
def accelerated(model):
    """`accelerate` for the length of a `with` block; functions that Keras compiled in it are forgotten afterwards."""
    accelerate(model)
    try:
        yield model
    finally:
        restore(model)
        model.train_function = model.test_function = model.predict_function = None
