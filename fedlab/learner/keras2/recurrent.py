"""Plain GRU and LSTM layers in a mathematically equal, faster form.

Keras multiplies the input by its kernel inside the time loop and lets automatic differentiation accumulate the gradient of the
recurrent kernel step by step. Here the input projection is one product before the loop, the gate derivatives are computed for all
steps at once, and the gradient of the recurrent kernel is one product after the loop. Weights keep Keras's layout.

A mask only changes the order of the steps: each row's unmasked steps are moved to its front, and the scan ends with the longest row (see
`_valid_first`). Padding then costs nothing.

A layer of bfloat16 multiplies its inputs in bfloat16 and goes through time in float32, where rounding would add up.

Only layers whose options leave the mathematics unchanged are taken (see `is_plain`); every other layer runs Keras's own code.
"""

import contextlib
import functools

import tensorflow as tf

from fedlab.learner.keras2 import recurrence

_LOOKUP = "_fedlab_lookup"


def is_plain(layer):
    """Whether the fast form is mathematically the same as `layer`: a Keras GRU or LSTM with its default mathematics."""
    return (
        type(layer) in (tf.keras.layers.GRU, tf.keras.layers.LSTM)
        and layer.activation in (tf.keras.activations.tanh, tf.tanh)
        and layer.recurrent_activation in (tf.keras.activations.sigmoid, tf.sigmoid)
        # Without what cuDNN needs, Keras draws dropout inside the cell, once for all steps.
        and (layer.dropout == 0 or layer._could_use_gpu_kernel)
        and layer.recurrent_dropout == 0
        and not (layer.time_major or layer.unroll)
        and layer.variable_dtype == "float32"
        and layer.compute_dtype in ("float32", "bfloat16")
    )


def _project(inputs, kernel, bias):
    """inputs @ kernel + bias, time first: [B, T, features] -> [T, B, units of all gates].

    Where the inputs are rows of a small embedding, its few rows are projected and then looked up, instead of one product per position.
    """

    def product(rows):
        projected = tf.matmul(rows, kernel)
        return projected if bias is None else projected + bias

    ids, embeddings = getattr(inputs, _LOOKUP, (None, None))
    if ids is not None:
        return tf.gather(product(embeddings), tf.transpose(ids))
    x = tf.transpose(inputs, [1, 0, 2])
    return tf.reshape(
        product(tf.reshape(x, [-1, x.shape[-1]])), [tf.shape(x)[0], tf.shape(x)[1], kernel.shape[1]]
    )


def _float32(value):
    return tf.cast(tf.convert_to_tensor(value), tf.float32)


def _rearrange(inputs, function):
    """`function(inputs)`, a change of the order of steps, still known as rows of an embedding where the inputs are."""
    output = function(inputs)
    if hasattr(inputs, _LOOKUP):
        ids, embeddings = getattr(inputs, _LOOKUP)
        setattr(output, _LOOKUP, (function(ids), embeddings))
    return output


def _valid_first(inputs, mask):
    """Moves each row's unmasked steps to its front.

    A masked step keeps the state, so that the scan may leave it out; what it meets behind a row's last unmasked step is never read.

    Args:
      inputs: [B, T, features].
      mask: bool [B, T].

    Returns:
      The inputs, cut to the longest row, [B, S, features], and for each of the T steps the place among these S of the latest unmasked
      step, -1 before the first, int32 [B, T].
    """
    latest = tf.cumsum(tf.cast(mask, tf.int32), axis=1) - 1
    num_steps = tf.maximum(tf.reduce_max(latest) + 1, 1)
    order = tf.argsort(tf.cast(~mask, tf.int32), axis=1, stable=True)[:, :num_steps]
    return _rearrange(inputs, lambda x: tf.gather(x, order, batch_dims=1)), latest


def _at(sequence, places, otherwise):
    """sequence[b, places[b, t]], and `otherwise` where the place is -1. [B, S, n], int32 [B, T] -> [B, T, n]."""
    return tf.where(
        places[..., None] >= 0, tf.gather(sequence, tf.maximum(places, 0), batch_dims=1), otherwise
    )


def _fast_call(layer, inputs, mask=None, training=None, initial_state=None, **kwargs):
    mask = mask[0] if isinstance(mask, list) else mask
    first = inputs[0] if isinstance(inputs, list) else inputs  # a list: inputs and initial states
    if (
        kwargs
        or isinstance(first, (tuple, tf.RaggedTensor))
        or (mask is not None and mask.shape.rank != 2)
    ):
        return type(layer).call(
            layer, inputs, mask=mask, training=training, initial_state=initial_state, **kwargs
        )
    is_lstm = isinstance(layer, tf.keras.layers.LSTM)
    inputs, initial, _ = layer._process_inputs(inputs, initial_state, None)
    steps = inputs.shape[1]
    if layer.dropout:
        layer.reset_dropout_mask()
        # Keras's own draws: one for each gate, of which the first is used.
        inputs = (
            inputs * layer.get_dropout_mask_for_cell(inputs, training, count=4 if is_lstm else 3)[0]
        )
    if layer.go_backwards:
        inputs = _rearrange(inputs, lambda x: tf.reverse(x, [1]))
    latest = None
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        mask = tf.reverse(mask, [1]) if layer.go_backwards else mask
        inputs, latest = _valid_first(inputs, mask)

    cell = layer.cell
    kernel = _float32(cell.recurrent_kernel)
    bias = [None, None]
    if layer.use_bias:
        # A GRU with reset_after has a second one, inside the recurrent product.
        bias = tf.unstack(cell.bias) if cell.bias.shape.rank == 2 else [cell.bias, None]
    x = _float32(_project(inputs, cell.kernel, bias[0]))
    state = [_float32(s) for s in tf.nest.flatten(initial)]
    if is_lstm:
        hidden = recurrence.lstm(x, *state, kernel)
    elif layer.reset_after:
        hidden = [
            recurrence.gru_reset_after(
                x,
                *state,
                kernel,
                tf.zeros([3 * layer.units]) if bias[1] is None else _float32(bias[1]),
            )
        ]
    else:
        hidden = [recurrence.gru_reset_before(x, *state, kernel)]

    if mask is None:
        last = [sequence[-1] for sequence in hidden]
        output = tf.transpose(hidden[0], [1, 0, 2]) if layer.return_sequences else last[0]
    else:
        hidden = [tf.transpose(sequence, [1, 0, 2]) for sequence in hidden]
        last = [
            _at(sequence, latest[:, -1:], before[:, None])[:, 0]
            for sequence, before in zip(hidden, state)
        ]
        # Keras's output before the first unmasked step is zero, whatever the initial state.
        output = _at(hidden[0], latest if layer.return_sequences else latest[:, -1:], 0.0)
        if layer.zero_output_for_mask:
            output = tf.where(
                mask[..., None] if layer.return_sequences else mask[:, -1:, None], output, 0.0
            )
        output = output if layer.return_sequences else output[:, 0]

    if layer.stateful:
        for variable, value in zip(tf.nest.flatten(layer.states), last):
            variable.assign(value)
    output, *last = (tf.cast(value, layer.compute_dtype) for value in (output, *last))
    output.set_shape(
        [inputs.shape[0], steps, layer.units]
        if layer.return_sequences
        else [inputs.shape[0], layer.units]
    )
    return [output, *last] if layer.return_state else output


def _remember_lookup(layer, inputs):
    """Keras's Embedding, whose output remembers which rows it is made of."""
    output = type(layer).call(layer, inputs)
    if (
        isinstance(inputs, tf.Tensor)
        and inputs.shape.rank == 2
        and layer.input_dim <= 2 * (inputs.shape[1] or 0)
    ):
        setattr(output, _LOOKUP, (tf.cast(inputs, tf.int32), layer.embeddings))
    return output


def _is_lookup(layer):
    return type(layer) is tf.keras.layers.Embedding and layer.compute_dtype == "float32"


def _fast_calls(model):
    """(layer, its fast call) of each layer of `model` that has one, nested ones included."""
    for layer in model._flatten_layers(include_self=False):
        if is_plain(layer):
            yield layer, _fast_call
        elif _is_lookup(layer):
            yield layer, _remember_lookup


def accelerate(model):
    """Makes the plain recurrent layers of `model`, nested ones included, run in the fast form from their next call on.

    Returns:
      The names of the layers changed; `restore` undoes it. Saving is not affected: weights and configuration stay Keras's own.
    """
    for layer, call in _fast_calls(model):
        layer.call = functools.partial(call, layer)
    return [layer.name for layer, call in _fast_calls(model) if call is _fast_call]


def restore(model):
    """Undoes `accelerate`."""
    for layer, _ in _fast_calls(model):
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
