"""Updates rounded at random to a few levels, so that fewer bytes go up.

low, high = min, max of a tensor;  step = (high - low) / (2^bits - 1);  t = (value - low) / step
level = floor(t) + 1 with probability t - floor(t), else floor(t);  received = low + step level;  its expectation is the value

Distributed Mean Estimation with Limited Communication
Ananda Theertha Suresh, Felix X. Yu, Sanjiv Kumar, H. Brendan McMahan. ICML 2017. https://arxiv.org/abs/1611.00429
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.aggregators.aggregator import Aggregator, check
from fedlab.aggregators.mean import mean


class Counted(NamedTuple):
    """Accumulator: the number of clients, float32 scalar, and the inner aggregator's."""

    clients: Any
    inner: Any


def quantized(inner=None, bits=8):
    """Uniform quantization with stochastic rounding (Suresh et al. 2017, section 2.2), tensor by tensor; unbiased.

        low, high = min, max of a tensor;    step = (high - low) / (2^bits - 1)
        received = low + step * ((value - low) / step, rounded up with the probability of its fraction, else down)

    A tensor that would not get smaller is sent as it is. What goes up is `encode`.

    Args:
      inner: the aggregator of the updates as they are received; by default `mean()`.
      bits: of a level, 1 to 16.

    Metrics: `bytes_up`, the true bytes of the encoded updates. What clients send beside their update goes up as it is, and is added.

    Returns:
      An `Aggregator`.

    Raises:
      ValueError: for bits out of range.

    Example:
      >>> quantized(mean(), bits=4).settings["bits"]
      4
    """
    inner = mean() if inner is None else check(inner)
    bits = _checks.check_int("bits", bits, 1, 16)

    def zero(state, weights):
        return Counted(tf.zeros([]), inner.zero(state, weights))

    def accumulate(state, accumulator, delta, weight, seed):
        own, inner_seed = tf.unstack(tf.random.split(seed, 2))
        received = []
        for i, tensor in enumerate(delta):
            if is_smaller(tensor, bits):
                levels, low, step = quantize(tensor, bits, tf.random.fold_in(own, i))
                tensor = low + step * levels
            received.append(tensor)
        clients = accumulator.clients + tf.cast(weight > 0, tf.float32)
        return Counted(
            clients, inner.accumulate(state, accumulator.inner, received, weight, inner_seed)
        )

    def merge(first, second):
        return Counted(first.clients + second.clients, inner.merge(first.inner, second.inner))

    def report(state, accumulator, seed):
        delta, state, metrics = inner.report(state, accumulator.inner, seed)
        num_bytes = sum(encoded_bytes(tensor, bits) for tensor in delta)
        return delta, state, {"bytes_up": int(accumulator.clients) * num_bytes, **metrics}

    settings = {"inner": inner, "bits": bits}
    return Aggregator(
        "quantized", settings, inner.init, zero, accumulate, merge, report, inner.privacy
    )


def quantize(tensor, bits, seed):
    """Levels of a tensor, whole numbers from 0 to 2^bits - 1 in the tensor's dtype, with the value of level 0 and the step.

    A draw has 16 bits, as drawing takes most of the time: the expectation is within 2^-17 of a step of the value.
    """
    low, high = tf.reduce_min(tensor), tf.reduce_max(tensor)
    step = (high - low) / (2**bits - 1)
    exact = tf.math.divide_no_nan(tensor - low, step)
    whole = tf.floor(exact)
    up = _draws(tensor, seed) + 0.5 < (exact - whole) * 2**16
    return tf.minimum(whole + tf.cast(up, tensor.dtype), 2**bits - 1), low, step


def _draws(like, seed):
    """Whole numbers from 0 to 2^16 - 1, of a tensor's shape and dtype."""
    size = like.shape.num_elements()
    drawn = tf.random.stateless_uniform(
        [-(-size // 4)], seed, minval=None, maxval=None, dtype=tf.uint64
    )
    return tf.cast(
        tf.reshape(tf.reshape(tf.bitcast(drawn, tf.uint16), [-1])[:size], like.shape), like.dtype
    )


def encode(levels, low, step, bits):
    """What goes over the wire for a tensor: level 0 and step, then the levels in `bits` bits each. NumPy arrays -> bytes."""
    each = (
        np.asarray(levels).reshape(-1, 1).astype(np.uint32) >> np.arange(bits, dtype=np.uint32)
    ) & 1  # [values, bits]
    return (
        np.asarray(low).tobytes()
        + np.asarray(step).tobytes()
        + np.packbits(each.astype(np.uint8)).tobytes()
    )


def decode(data, shape, dtype, bits):
    """The tensor that `encode` gave the bytes of, as it is received."""
    dtype = np.dtype(dtype)
    low, step = np.frombuffer(data[: 2 * dtype.itemsize], dtype)
    each = np.unpackbits(
        np.frombuffer(data[2 * dtype.itemsize :], np.uint8), count=int(np.prod(shape)) * bits
    ).reshape(-1, bits)
    levels = (each.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(axis=1)
    return (low + step * levels.astype(dtype)).reshape(shape)


def is_smaller(tensor, bits):
    """Whether a tensor takes fewer bytes encoded."""
    return _packed_bytes(tensor, bits) < tensor.shape.num_elements() * tensor.dtype.size


def encoded_bytes(tensor, bits):
    """How many bytes go up for a tensor."""
    return min(_packed_bytes(tensor, bits), tensor.shape.num_elements() * tensor.dtype.size)


def _packed_bytes(tensor, bits):
    return 2 * tensor.dtype.size + -(-tensor.shape.num_elements() * bits // 8)
