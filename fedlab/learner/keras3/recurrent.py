"""The fast form of GRU and LSTM layers, see `fedlab.learner.fast_recurrence`, in Keras 3.

Only the time loop of layers with Keras's default mathematics is replaced (see
`is_plain`). Keras prepares initial states, draws dropout masks and updates the states of
stateful layers. Other layers run Keras's own code.
"""

import contextlib
import functools
from collections.abc import Iterator

import keras
import tensorflow as tf

from fedlab.learner import fast_recurrence
from fedlab.learner.keras3.graph import layers_of
from fedlab.learner.variables import variables_of

_TANH = (keras.activations.tanh, keras.ops.tanh, tf.tanh)
_SIGMOID = (keras.activations.sigmoid, keras.ops.sigmoid, tf.sigmoid)
_CELLS = {keras.layers.GRU: keras.layers.GRUCell, keras.layers.LSTM: keras.layers.LSTMCell}


def is_plain(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is a Keras GRU or LSTM with the default mathematics."""
    if type(layer) not in _CELLS or type(layer.cell) is not _CELLS[type(layer)]:
        return False
    cell = layer.cell
    return (
        cell.activation in _TANH
        and cell.recurrent_activation in _SIGMOID
        # With implementation 1, each gate has a dropout mask of its own.
        and (cell.dropout == 0 or cell.implementation != 1)
        and cell.recurrent_dropout == 0
        and not layer.unroll
        and layer.use_cudnn is not True  # which Keras refuses without a GPU
        and _is_float32(layer)
        and _is_float32(cell)
    )


def _is_float32(layer):
    return layer.compute_dtype == layer.variable_dtype == "float32" and not layer.quantization_mode


def _tensor(value):
    return None if value is None else tf.convert_to_tensor(value)


def _fast_loop(layer, sequences, initial_state, mask, training=False):
    """Replaces `inner_loop`. Returns (last output, all outputs, last state)."""
    mask = mask[0] if isinstance(mask, (list, tuple)) else mask
    if isinstance(sequences, tf.RaggedTensor) or (mask is not None and mask.shape.rank != 2):
        return type(layer).inner_loop(layer, sequences, initial_state, mask, training=training)
    cell = layer.cell
    if isinstance(layer, keras.layers.LSTM):
        kind = "lstm"
    else:
        kind = "gru_reset_after" if cell.reset_after else "gru_reset_before"
    if training and 0 < cell.dropout < 1:
        sequences *= cell.get_dropout_mask(sequences[:, 0])[:, None]
    weights = map(_tensor, (cell.kernel, cell.recurrent_kernel, cell.bias))
    output, states = fast_recurrence.run(
        fast_recurrence.Cell(kind, *weights),
        sequences,
        initial_state,
        mask,
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
    )
    return output, output, states  # Keras reads one of the outputs


def _remember_lookup(layer, inputs):
    """Calls a Keras Embedding and attaches the ids and the embeddings to its output."""
    output = type(layer).call(layer, inputs)
    if isinstance(inputs, tf.Tensor) and inputs.shape.rank == 2:
        embeddings = tf.convert_to_tensor(layer.embeddings)
        ids = tf.cast(inputs, tf.int32)
        ids = tf.where(ids < 0, ids + layer.input_dim, ids)  # as Keras counts from the end
        fast_recurrence.remember_lookup(output, ids, embeddings)
    return output


def _fast_forms(model):
    """(layer, the method to replace, its fast form), including nested layers."""
    for layer in layers_of(model):
        if is_plain(layer):
            yield layer, "inner_loop", _fast_loop
        elif type(layer) is keras.layers.Embedding and _is_float32(layer):
            yield layer, "call", _remember_lookup


def accelerate(model: keras.Model) -> list[str]:
    """Makes the plain recurrent layers of a model use the fast form, until `restore`.

    This includes nested layers. Weights, configuration and saving do not change. XLA
    cannot compile the fast form.

    Returns:
      The names of the changed layers.
    """
    changed = []
    for layer, method, form in _fast_forms(model):
        # Keras tracks attributes that are set in the usual way.
        layer.__dict__[method] = functools.partial(form, layer)
        if form is _fast_loop:
            changed.append(layer.name)
    return changed


def restore(model: keras.Model) -> None:
    """Undoes `accelerate`."""
    for layer, method, _ in _fast_forms(model):
        layer.__dict__.pop(method, None)


@contextlib.contextmanager
def accelerated(model: keras.Model) -> Iterator[keras.Model]:
    """Accelerates a model within a `with` block.

    Functions that Keras compiles in the block are discarded afterwards. In the block,
    Keras does not use XLA.
    """
    changed, jit_compile = accelerate(model), model.jit_compile
    if changed:
        model.train_function = model.test_function = model.predict_function = None
        model.jit_compile = False
    try:
        yield model
    finally:
        restore(model)
        if changed:
            model.jit_compile = jit_compile
            model.train_function = model.test_function = model.predict_function = None


def recurrent_states(model: keras.Model) -> list[tf.Variable]:
    """Returns the variables in which stateful recurrent layers keep their states."""
    layers = [layer for layer in layers_of(model) if getattr(layer, "stateful", False)]
    states = (s for layer in layers for s in keras.tree.flatten(getattr(layer, "states", None)))
    return variables_of(state for state in states if isinstance(state, keras.Variable))


def reset_states(model: keras.Model) -> None:
    """Sets the states of stateful recurrent layers to zero."""
    for state in recurrent_states(model):
        state.assign(tf.zeros_like(state))
