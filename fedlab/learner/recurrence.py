"""GRU and LSTM over time, from projected inputs to hidden states, with own gradients.

The gradient of the recurrent kernel is one product after the loop. The loops are
machine code (`_compiled_scans`) if numba is installed and a batch has few rows, as on
clients. Otherwise they are TensorFlow loops (`_graph_scans`).
"""

from collections.abc import Callable

import tensorflow as tf

from fedlab import _extras
from fedlab.learner import _graph_scans

try:
    from fedlab.learner import _compiled_scans
except ImportError:
    _compiled_scans = None  # type: ignore[assignment]

# Up to this number of rows, TensorFlow spends more time on rearranging the recurrent
# kernel at every step than on the product.
_FEW_ROWS = 32


def _scan(name, batch, *arguments):
    """Runs the loop `name` in the form that suits the number of rows of `batch`."""
    plain = getattr(_graph_scans, name)
    # A loop on a GPU should not return to the CPU at each call.
    if tf.config.get_visible_devices("GPU"):
        return plain(*arguments)
    if _compiled_scans is None:
        _extras.skipped("LSTM and GRU layers train in TensorFlow's slower loops", "numba")
        return plain(*arguments)
    compiled = getattr(_compiled_scans, name)
    if batch.shape[0] is not None:
        return (compiled if batch.shape[0] <= _FEW_ROWS else plain)(*arguments)
    return tf.cond(
        tf.shape(batch)[0] <= _FEW_ROWS, lambda: compiled(*arguments), lambda: plain(*arguments)
    )


def _rows(x):
    """Reshapes [T, B, n] to [T * B, n]."""
    return tf.reshape(x, [-1, x.shape[-1]])


def _before(first, sequence):
    """The values one step earlier: [first, sequence[0], ..., sequence[T - 2]]."""
    return tf.concat([first[None], sequence[:-1]], axis=0)


@tf.custom_gradient
def gru_reset_after(
    x: tf.Tensor, h0: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """Returns the hidden states of a GRU with `reset_after=True`, Keras's default.

    The reset gate acts after the recurrent product. All tensors are float32.

    Args:
      x: projected inputs, input bias included, [T, B, 3 * units] in Keras's gate order
        (update z, reset r, candidate).
      h0: initial state, [B, units].
      kernel: recurrent kernel, [units, 3 * units].
      bias: recurrent bias, [3 * units].

    Returns:
      All hidden states, [T, B, units].
    """
    units = h0.shape[-1]
    h, saved = _scan("gru_forward", h0, x, h0, kernel, bias)

    def grad(dy):
        dh0, d_inner, d_candidate = _scan("gru_backward", h0, dy, h0, h, saved, kernel)
        dx = tf.concat([d_inner[..., : 2 * units], d_candidate], axis=-1)
        d_kernel = tf.matmul(_rows(_before(h0, h)), _rows(d_inner), transpose_a=True)
        return dx, dh0, d_kernel, tf.reduce_sum(d_inner, axis=[0, 1])

    return h, grad


@tf.custom_gradient
def gru_reset_before(x: tf.Tensor, h0: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Returns the hidden states of a GRU with `reset_after=False`.

    The reset gate acts on the state before the recurrent product; see
    `gru_reset_after`.
    """
    units = h0.shape[-1]
    h, saved = _graph_scans.gru_before_forward(x, h0, kernel)

    def grad(dy):
        dh0, dx = _graph_scans.gru_before_backward(dy, h0, h, saved, kernel)
        h_before, r = _before(h0, h), saved[..., units : 2 * units]
        d_gates = tf.matmul(_rows(h_before), _rows(dx[..., : 2 * units]), transpose_a=True)
        d_candidate = tf.matmul(_rows(r * h_before), _rows(dx[..., 2 * units :]), transpose_a=True)
        return dx, dh0, tf.concat([d_gates, d_candidate], axis=-1)

    return h, grad


@tf.custom_gradient
def lstm(
    x: tf.Tensor, h0: tf.Tensor, c0: tf.Tensor, kernel: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
    """Returns the hidden states and cell states of an LSTM. All tensors are float32.

    Args:
      x: projected inputs, bias included, [T, B, 4 * units] in Keras's gate order
        (input i, forget f, candidate g, output o).
      h0, c0: initial states, [B, units].
      kernel: recurrent kernel, [units, 4 * units].

    Returns:
      All hidden states and all cell states, both [T, B, units].
    """
    h, c, gates = _scan("lstm_forward", h0, x, h0, c0, kernel)

    def grad(dh, dc):
        dh0, dc0, dx = _scan("lstm_backward", h0, dh, dc, c0, c, gates, kernel)
        return dx, dh0, dc0, tf.matmul(_rows(_before(h0, h)), _rows(dx), transpose_a=True)

    return (h, c), grad
