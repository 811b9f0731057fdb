"""Updates rounded at random to a few levels, so that clients send fewer bytes.

low, high = min, max of a tensor;  step = (high - low) / (2^bits - 1);  t = (value - low) / step
level = floor(t) + 1 with probability t - floor(t), else floor(t)
received = low + step level, whose expectation is the value

Distributed Mean Estimation with Limited Communication
Ananda Theertha Suresh, Felix X. Yu, Sanjiv Kumar, H. Brendan McMahan.
ICML 2017. https://arxiv.org/abs/1611.00429
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks, ops
from fedlab.aggregators.aggregator import Aggregator, check
from fedlab.aggregators.mean import mean
from fedlab.ops import Nest, Tensor


class Counted(NamedTuple):
    """Accumulator: the number of clients, a float32 scalar, and the inner accumulator."""

    clients: Tensor
    inner: Nest


def quantized(inner: Aggregator | None = None, bits: int = 8) -> Aggregator:
    """Unbiased uniform quantization with stochastic rounding (Suresh et al. 2017, Section 2.2).

        low, high = min, max of a tensor
        step = (high - low) / (2^bits - 1)
        level = (value - low) / step, rounded up with the probability of its fraction, else down
        received = low + step * level

    A tensor that would not get smaller is sent unchanged. `encode` makes the bytes that are sent.

    Args:
      inner: the aggregator of the received updates, by default `mean()`.
      bits: the number of bits per value, 1 to 16.

    Metrics: `bytes_up`, the size of the encoded updates and of what clients send in addition,
    which is not encoded.

    Returns:
      An `Aggregator`.

    Raises:
      ValueError: `bits` is out of range.

    Example:
      >>> quantized(mean(), bits=4).settings["bits"]
      4
    """
    inner = mean() if inner is None else check(inner)
    bits = _checks.check_int("bits", bits, 1, 16)

    def zero(state, weights):
        return Counted(ops.zeros([]), inner.zero(state, weights))

    def accumulate(state, accumulator, delta, weight, seed):
        rounding_seed, inner_seed = ops.split_seed(seed)
        received = []
        for i, tensor in enumerate(delta):
            if is_smaller(tensor, bits):
                levels, low, step = quantize(tensor, bits, ops.fold_in(rounding_seed, i))
                tensor = low + step * levels
            received.append(tensor)
        return Counted(
            accumulator.clients + ops.cast(weight > 0, "float32"),
            inner.accumulate(state, accumulator.inner, received, weight, inner_seed),
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


def quantize(tensor: Tensor, bits: int, seed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds a tensor to levels.

    A draw has 16 bits only, as drawing takes most of the time. The expectation is therefore within
    2^-17 of a step of the value.

    Returns:
      (levels, whole numbers from 0 to 2^bits - 1 in the tensor's dtype; the value of level 0; the
      step).
    """
    low, high = ops.min(tensor), ops.max(tensor)
    step = (high - low) / (2**bits - 1)
    exact = ops.divide_no_nan(tensor - low, step)
    whole = ops.floor(exact)
    up = _draws(tensor, seed) + 0.5 < (exact - whole) * 2**16
    return ops.minimum(whole + ops.cast(up, tensor.dtype), 2**bits - 1), low, step


def _draws(like: Tensor, seed: Tensor) -> Tensor:
    """Whole numbers from 0 to 2^16 - 1, of a tensor's shape and dtype."""
    size = ops.size(like)
    drawn = ops.view(ops.random_bits([-(-size // 4)], "uint64", seed=seed), "uint16")[:size]
    return ops.cast(ops.reshape(drawn, like.shape), like.dtype)


def encode(levels: Any, low: Any, step: Any, bits: int) -> bytes:
    """The bytes that are sent for a tensor: level 0 and step, then the levels in `bits` each.

    The arguments are NumPy arrays.
    """
    each = (
        np.asarray(levels).reshape(-1, 1).astype(np.uint32) >> np.arange(bits, dtype=np.uint32)
    ) & 1  # [values, bits]
    return (
        np.asarray(low).tobytes()
        + np.asarray(step).tobytes()
        + np.packbits(each.astype(np.uint8)).tobytes()
    )


def decode(data: bytes, shape: Sequence[int], dtype: Any, bits: int) -> np.ndarray:
    """The received tensor for the bytes of `encode`."""
    dtype = np.dtype(dtype)
    low, step = np.frombuffer(data[: 2 * dtype.itemsize], dtype)
    each = np.unpackbits(
        np.frombuffer(data[2 * dtype.itemsize :], np.uint8), count=int(np.prod(shape)) * bits
    ).reshape(-1, bits)
    levels = (each.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(axis=1)
    return (low + step * levels.astype(dtype)).reshape(shape)


def is_smaller(tensor: Tensor, bits: int) -> bool:
    """Whether a tensor has fewer bytes when it is encoded."""
    return _packed_bytes(tensor, bits) < ops.num_bytes(tensor)


def encoded_bytes(tensor: Tensor, bits: int) -> int:
    """How many bytes are sent for a tensor."""
    return min(_packed_bytes(tensor, bits), ops.num_bytes(tensor))


def _packed_bytes(tensor: Tensor, bits: int) -> int:
    value_bytes = ops.num_bytes(tensor) // max(1, ops.size(tensor))
    return 2 * value_bytes + -(-ops.size(tensor) * bits // 8)
