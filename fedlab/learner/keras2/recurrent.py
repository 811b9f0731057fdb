"""The fast form of GRU and LSTM layers, see `fedlab.learner.fast_recurrence`, in Keras 2.

Only layers with Keras's default mathematics are changed (see `is_plain`). Other layers
run Keras's own code. A bfloat16 layer multiplies its inputs in bfloat16, but loops over
time in float32.
"""

import contextlib
import functools
from collections.abc import Iterator

import tensorflow as tf

from fedlab.learner import fast_recurrence
from fedlab.learner.keras2.graph import layers_of


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


def _cell(layer):
    """What a layer computes at each step, as `fast_recurrence` takes it."""
    cell = layer.cell
    if isinstance(layer, tf.keras.layers.LSTM):
        kind = "lstm"
    else:
        kind = "gru_reset_after" if layer.reset_after else "gru_reset_before"
    bias = cell.bias if layer.use_bias else None
    return fast_recurrence.Cell(kind, cell.kernel, cell.recurrent_kernel, bias)


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
    inputs, initial, _ = layer._process_inputs(inputs, initial_state, None)
    if layer.dropout:
        layer.reset_dropout_mask()
        # Like Keras, draw one mask per gate and use the first.
        count = 4 if isinstance(layer, tf.keras.layers.LSTM) else 3
        inputs = inputs * layer.get_dropout_mask_for_cell(inputs, training, count=count)[0]
    output, last = fast_recurrence.run(
        _cell(layer),
        inputs,
        tf.nest.flatten(initial),
        mask,
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
    )
    if layer.stateful:
        for variable, value in zip(tf.nest.flatten(layer.states), last):
            variable.assign(value)
    output, *last = (tf.cast(value, layer.compute_dtype) for value in (output, *last))
    return [output, *last] if layer.return_state else output


def _remember_lookup(layer, inputs):
    """Calls a Keras Embedding and attaches the ids and the embeddings to its output."""
    output = type(layer).call(layer, inputs)
    if isinstance(inputs, tf.Tensor) and inputs.shape.rank == 2:
        ids = tf.cast(inputs, tf.int32)
        fast_recurrence.remember_lookup(output, ids, layer.embeddings)
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
