"""A faster form of plain GRU and LSTM layers that is mathematically the same.

Keras multiplies the input by its kernel inside the time loop, and automatic
differentiation accumulates the gradient of the recurrent kernel step by step. Here, the
input projection is one product before the loop, gate derivatives are computed for all
steps at once, and the gradient of the recurrent kernel is one product after the loop.
Weights keep Keras's layout.

With a mask, the unmasked steps of each row are moved to the front, and the loop ends
with the longest row (see `_valid_first`), so padding costs nothing.

Nothing here depends on the version of Keras. The modules `recurrent` of the
implementations decide which layers use this form.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.learner import recurrence

_LOOKUP = "_fedlab_lookup"


class Cell(NamedTuple):
    """What a layer computes at each step.

    Attributes:
      kind: "lstm", or "gru_reset_after" or "gru_reset_before" for a GRU.
      kernel: [features, units of all gates], in the dtype of the inputs.
      recurrent_kernel: [units, units of all gates].
      bias: [units of all gates]; [2, units of all gates] of a GRU that also has a bias
        inside the recurrent product; or None.
    """

    kind: str
    kernel: tf.Tensor
    recurrent_kernel: tf.Tensor
    bias: tf.Tensor | None

    @property
    def units(self) -> int:
        """The size of the state."""
        return self.recurrent_kernel.shape[0]


def remember_lookup(output: tf.Tensor, ids: tf.Tensor, embeddings: tf.Tensor) -> None:
    """Attaches the source of an embedding layer's output to it, if that makes `run` faster.

    The rows of a small embedding are projected and then looked up, instead of one
    product per position.

    Args:
      output: embeddings[ids], [B, T, features].
      ids: int32 [B, T].
      embeddings: [rows, features].
    """
    if embeddings.shape[0] <= 2 * (ids.shape[1] or 0):
        setattr(output, _LOOKUP, (ids, embeddings))


def _project(inputs, kernel, bias):
    """inputs @ kernel + bias: [B, T, features] -> [T, B, units of all gates]."""

    def product(rows):
        projected = tf.matmul(rows, kernel)
        return projected if bias is None else projected + bias

    ids, embeddings = getattr(inputs, _LOOKUP, (None, None))
    if ids is not None:
        return tf.gather(product(embeddings), tf.transpose(ids))
    x = tf.transpose(inputs, [1, 0, 2])
    rows = product(tf.reshape(x, [-1, kernel.shape[0]]))
    return tf.reshape(rows, [tf.shape(x)[0], tf.shape(x)[1], kernel.shape[1]])


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


def _hidden(cell, x, state):
    """The hidden states of all steps, and the cell states of an LSTM, each [T, B, units]."""
    kernel = _float32(cell.recurrent_kernel)
    if cell.kind == "lstm":
        return recurrence.lstm(x, *state, kernel)
    if cell.kind == "gru_reset_before":
        return [recurrence.gru_reset_before(x, *state, kernel)]
    if cell.bias is None:
        inner_bias = tf.zeros([3 * cell.units])
    else:
        inner_bias = _float32(cell.bias[1])
    return [recurrence.gru_reset_after(x, *state, kernel, inner_bias)]


def run(
    cell: Cell,
    inputs: tf.Tensor,
    initial: Sequence[tf.Tensor],
    mask: tf.Tensor | None = None,
    *,
    return_sequences: bool = False,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs a recurrent layer over time. The options are those of Keras's layers.

    The inputs are multiplied in their own dtype. The loop over time is float32, because
    rounding errors would accumulate.

    Args:
      cell: the step.
      inputs: [B, T, features].
      initial: the initial state, one or two tensors [B, units].
      mask: bool [B, T], or None.
      return_sequences: whether to return the output of each step.
      go_backwards: whether to start from the last step.
      zero_output_for_mask: whether the output of a masked step is zero, instead of the
        latest output.

    Returns:
      (the output, [B, T, units] or [B, units]; the last state), float32.
    """
    num_rows, num_steps = inputs.shape[:2]
    if go_backwards:
        inputs = _rearrange(inputs, lambda x: tf.reverse(x, [1]))
    latest: Any = None
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        mask = tf.reverse(mask, [1]) if go_backwards else mask
        inputs, latest = _valid_first(inputs, mask)

    # A GRU with reset_after has two biases.
    bias = cell.bias[0] if cell.bias is not None and cell.bias.shape.rank == 2 else cell.bias
    state = [_float32(each) for each in initial]
    hidden = _hidden(cell, _float32(_project(inputs, cell.kernel, bias)), state)

    if mask is None:
        last = [sequence[-1] for sequence in hidden]
        output = tf.transpose(hidden[0], [1, 0, 2]) if return_sequences else last[0]
    else:
        hidden = [tf.transpose(sequence, [1, 0, 2]) for sequence in hidden]
        last = [
            _at(sequence, latest[:, -1:], before[:, None])[:, 0]
            for sequence, before in zip(hidden, state)
        ]
        # In Keras, the output before the first unmasked step is zero for any initial
        # state.
        output = _at(hidden[0], latest if return_sequences else latest[:, -1:], 0.0)
        if zero_output_for_mask:
            output = tf.where(
                mask[..., None] if return_sequences else mask[:, -1:, None], output, 0.0
            )
        output = output if return_sequences else output[:, 0]
    output.set_shape([num_rows, *([num_steps] if return_sequences else []), cell.units])
    return output, last
