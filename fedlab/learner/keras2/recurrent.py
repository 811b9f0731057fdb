"""A faster form of plain GRU and LSTM layers that is mathematically the same.

Keras multiplies the input by its kernel inside the time loop, and automatic
differentiation accumulates the gradient of the recurrent kernel step by step. Here, the
input projection is one product before the loop, gate derivatives are computed for all
steps at once, and the gradient of the recurrent kernel is one product after the loop.
Weights keep Keras's layout.

With a mask, the unmasked steps of each row are moved to the front, and the loop ends
with the longest row (see `_valid_first`), so padding costs nothing.

A bfloat16 layer multiplies its inputs in bfloat16, but loops over time in float32,
because rounding errors would accumulate.

Only layers with Keras's default mathematics are changed (see `is_plain`). Other layers
run Keras's own code.
"""

import contextlib
import functools
from collections.abc import Iterator

import tensorflow as tf

from fedlab.learner.keras2 import recurrence
from fedlab.learner.keras2.graph import layers_of

_LOOKUP = "_fedlab_lookup"


def is_plain(layer: tf.keras.layers.Layer) -> bool:
    """Returns whether a layer is a Keras GRU or LSTM with the default mathematics."""
    return (
        type(layer) in (tf.keras.layers.GRU, tf.keras.layers.LSTM)
        and layer.activation in (tf.keras.activations.tanh, tf.tanh)
        and layer.recurrent_activation in (tf.keras.activations.sigmoid, tf.sigmoid)
        # If cuDNN cannot run the layer, Keras draws dropout inside the cell, once for
        # all steps.
        and (layer.dropout == 0 or layer._could_use_gpu_kernel)
        and layer.recurrent_dropout == 0
        and not (layer.time_major or layer.unroll)
        and layer.variable_dtype == "float32"
        and layer.compute_dtype in ("float32", "bfloat16")
    )


def _project(inputs, kernel, bias):
    """inputs @ kernel + bias: [B, T, features] -> [T, B, units of all gates].

    If the inputs are rows of a small embedding, the rows of the embedding are projected
    and then looked up, instead of one product per position.
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
    """Applies a function that changes the order of steps, and keeps the embedding lookup."""
    output = function(inputs)
    if hasattr(inputs, _LOOKUP):
        ids, embeddings = getattr(inputs, _LOOKUP)
        setattr(output, _LOOKUP, (function(ids), embeddings))
    return output


def _valid_first(inputs, mask):
    """Moves the unmasked steps of each row to the front.

    A masked step does not change the state, so the loop may leave it out. Steps after
    the last unmasked step of a row are computed, but never read.

    Args:
      inputs: [B, T, features].
      mask: bool [B, T].

    Returns:
      The inputs, cut to the longest row, [B, S, features]; and for each of the T steps
      the place of the latest unmasked step among the S steps, int32 [B, T], which is -1
      before the first.
    """
    latest = tf.cumsum(tf.cast(mask, tf.int32), axis=1) - 1
    num_steps = tf.maximum(tf.reduce_max(latest) + 1, 1)
    order = tf.argsort(tf.cast(~mask, tf.int32), axis=1, stable=True)[:, :num_steps]
    return _rearrange(inputs, lambda x: tf.gather(x, order, batch_dims=1)), latest


def _at(sequence, places, otherwise):
    """sequence[b, places[b, t]], or `otherwise` if the place is -1.

    [B, S, n], int32 [B, T] -> [B, T, n].
    """
    return tf.where(
        places[..., None] >= 0, tf.gather(sequence, tf.maximum(places, 0), batch_dims=1), otherwise
    )


def _fast_call(layer, inputs, mask=None, training=None, initial_state=None, **kwargs):
    mask = mask[0] if isinstance(mask, list) else mask
    first = inputs[0] if isinstance(inputs, list) else inputs  # initial states may follow
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
        # Like Keras, draw one mask per gate and use the first.
        masks = layer.get_dropout_mask_for_cell(inputs, training, count=4 if is_lstm else 3)
        inputs = inputs * masks[0]
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
        # A GRU with reset_after has a second bias, inside the recurrent product.
        bias = tf.unstack(cell.bias) if cell.bias.shape.rank == 2 else [cell.bias, None]
    x = _float32(_project(inputs, cell.kernel, bias[0]))
    state = [_float32(s) for s in tf.nest.flatten(initial)]
    if is_lstm:
        hidden = recurrence.lstm(x, *state, kernel)
    elif layer.reset_after:
        inner_bias = tf.zeros([3 * layer.units]) if bias[1] is None else _float32(bias[1])
        hidden = [recurrence.gru_reset_after(x, *state, kernel, inner_bias)]
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
        # In Keras, the output before the first unmasked step is zero for any initial
        # state.
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
    num_steps = [steps] if layer.return_sequences else []
    output.set_shape([inputs.shape[0], *num_steps, layer.units])
    return [output, *last] if layer.return_state else output


def _remember_lookup(layer, inputs):
    """Calls a Keras Embedding and attaches the ids and the embeddings to its output."""
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
    """(layer, its fast call) of each layer that has one, including nested layers."""
    for layer in layers_of(model):
        if is_plain(layer):
            yield layer, _fast_call
        elif _is_lookup(layer):
            yield layer, _remember_lookup


def accelerate(model: tf.keras.Model) -> list[str]:
    """Makes the plain recurrent layers of a model use the fast form, until `restore`.

    This includes nested layers. Weights, configuration and saving do not change.

    Returns:
      The names of the changed layers.
    """
    for layer, call in _fast_calls(model):
        layer.call = functools.partial(call, layer)
    return [layer.name for layer, call in _fast_calls(model) if call is _fast_call]


def restore(model: tf.keras.Model) -> None:
    """Undoes `accelerate`."""
    for layer, _ in _fast_calls(model):
        layer.__dict__.pop("call", None)


@contextlib.contextmanager
def accelerated(model: tf.keras.Model) -> Iterator[tf.keras.Model]:
    """Accelerates a model within a `with` block.

    Functions that Keras compiles in the block are discarded afterwards.
    """
    accelerate(model)
    try:
        yield model
    finally:
        restore(model)
        model.train_function = model.test_function = model.predict_function = None


def recurrent_states(model: tf.keras.Model) -> list[tf.Variable]:
    """Returns the variables in which stateful recurrent layers keep their states."""
    layers = [
        layer
        for layer in layers_of(model)
        if getattr(layer, "stateful", False) and getattr(layer, "states", None) is not None
    ]
    states = (state for layer in layers for state in tf.nest.flatten(layer.states))
    return [state for state in states if state is not None]


def reset_states(model: tf.keras.Model) -> None:
    """Sets the states of stateful recurrent layers to zero."""
    model.reset_states()
