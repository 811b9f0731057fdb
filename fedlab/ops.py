"""Tensor operations for algorithms, aggregators and optimizers, under their Keras 3 names.

Most functions are those of `keras.ops`, with its arguments and semantics. `flatten`,
`map_structure`, `pack_sequence_as` and `is_nested` are those of `keras.tree`. `normal` and
`uniform` are those of `keras.random`, with a seed that is a tensor: a draw depends on its seed
only. `fold_in`, `split_seed` and `random_bits` are the functions of `jax.random` that Keras lacks.

Dtypes are names such as "float32". The implementation here is TensorFlow's.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

Tensor: TypeAlias = Any  # a tf.Tensor
Weights: TypeAlias = list[Tensor]
Nest: TypeAlias = Any  # a tensor, or lists, tuples, NamedTuples and dicts of tensors
Shape: TypeAlias = Sequence[int]


def convert_to_tensor(x: Any, dtype: str | None = None) -> Tensor:
    """Converts a number, list or array to a tensor."""
    return tf.convert_to_tensor(x, dtype)


def cast(x: Any, dtype: str) -> Tensor:
    """Converts to another dtype. Floats are truncated towards zero when they become integers."""
    return tf.cast(x, dtype)


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor rather than a number or an array."""
    return tf.is_tensor(x)


def is_float(x: Tensor) -> bool:
    """Whether a tensor has a floating-point dtype."""
    return tf.as_dtype(x.dtype).is_floating


def is_int(x: Tensor) -> bool:
    """Whether a tensor has an integer dtype."""
    return tf.as_dtype(x.dtype).is_integer


def size(x: Tensor) -> int:
    """The number of values of a tensor of known shape."""
    return int(np.prod(x.shape, dtype=np.int64))


def num_bytes(x: Tensor) -> int:
    """The size of a tensor of known shape in memory."""
    return size(x) * tf.as_dtype(x.dtype).size


# ---- New tensors ----


def zeros(shape: Shape, dtype: str = "float32") -> Tensor:
    """A tensor of zeros."""
    return tf.zeros(shape, dtype)


def ones(shape: Shape, dtype: str = "float32") -> Tensor:
    """A tensor of ones."""
    return tf.ones(shape, dtype)


def full(shape: Shape, fill_value: float, dtype: str = "float32") -> Tensor:
    """A tensor filled with a value."""
    return tf.fill(shape, tf.constant(fill_value, dtype))


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape and dtype of `x`."""
    return tf.zeros_like(x)


def ones_like(x: Tensor) -> Tensor:
    """Ones of the shape and dtype of `x`."""
    return tf.ones_like(x)


# ---- Elementwise ----


def add(x1: Any, x2: Any) -> Tensor:
    """x1 + x2."""
    return tf.add(x1, x2)


def power(x1: Any, x2: Any) -> Tensor:
    """x1 to the power of x2."""
    return tf.pow(x1, x2)


def minimum(x1: Any, x2: Any) -> Tensor:
    """The smaller of each pair of values."""
    return tf.minimum(x1, x2)


def divide_no_nan(x1: Any, x2: Any) -> Tensor:
    """x1 / x2, and 0 where x2 is 0."""
    return tf.math.divide_no_nan(x1, x2)


def equal(x1: Any, x2: Any) -> Tensor:
    """Whether x1 equals x2."""
    return tf.equal(x1, x2)


def square(x: Tensor) -> Tensor:
    """The square of each value."""
    return tf.square(x)


def sqrt(x: Tensor) -> Tensor:
    """The square root of each value."""
    return tf.sqrt(x)


def exp(x: Tensor) -> Tensor:
    """e to the power of each value."""
    return tf.exp(x)


def cos(x: Tensor) -> Tensor:
    """The cosine of each value, in radians."""
    return tf.cos(x)


def absolute(x: Tensor) -> Tensor:
    """The absolute value of each value."""
    return tf.abs(x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1 for each value."""
    return tf.sign(x)


def floor(x: Tensor) -> Tensor:
    """Rounds down."""
    return tf.floor(x)


def ceil(x: Tensor) -> Tensor:
    """Rounds up."""
    return tf.math.ceil(x)


def round(x: Tensor) -> Tensor:
    """Rounds to the nearest whole number, and halves to the even one."""
    return tf.round(x)


def clip(x: Tensor, x_min: float, x_max: float) -> Tensor:
    """Limits values to [x_min, x_max]."""
    return tf.clip_by_value(x, x_min, x_max)


def where(condition: Tensor, x1: Any, x2: Any) -> Tensor:
    """x1 where the condition holds, x2 elsewhere."""
    return tf.where(condition, x1, x2)


# ---- Reductions and shapes ----


def sum(x: Tensor, axis: int | None = None) -> Tensor:
    """The sum over an axis, or over all axes."""
    return tf.reduce_sum(x, axis)


def add_n(inputs: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape, in one kernel."""
    return tf.add_n(inputs)


def max(x: Any, axis: int | None = None) -> Tensor:
    """The largest value over an axis, or over all axes."""
    return tf.reduce_max(x, axis)


def min(x: Any, axis: int | None = None) -> Tensor:
    """The smallest value over an axis, or over all axes."""
    return tf.reduce_min(x, axis)


def any(x: Tensor, axis: int | None = None) -> Tensor:
    """Whether any value is true, over an axis or over all axes."""
    return tf.reduce_any(x, axis)


def reshape(x: Tensor, newshape: Shape) -> Tensor:
    """The values of `x` in another shape."""
    return tf.reshape(x, newshape)


def view(x: Tensor, dtype: str) -> Tensor:
    """The bytes of a vector as values of a smaller dtype, [values] -> [values * ratio of sizes]."""
    return tf.reshape(tf.bitcast(x, dtype), [-1])


# ---- Control flow ----


def cond(pred: Tensor, true_fn: Callable[[], Nest], false_fn: Callable[[], Nest]) -> Nest:
    """The result of one of two functions, which return nests of the same structure."""
    return tf.cond(pred, true_fn, false_fn)


# ---- Nests, as in keras.tree ----


def flatten(structure: Nest) -> list[Tensor]:
    """The tensors of a nest, in order."""
    return tf.nest.flatten(structure)


def map_structure(func: Callable, *structures: Nest) -> Nest:
    """Applies a function to the tensors of nests of the same structure."""
    return tf.nest.map_structure(func, *structures)


def pack_sequence_as(structure: Nest, flat_sequence: Sequence[Tensor]) -> Nest:
    """The inverse of `flatten`: tensors in the structure of a nest."""
    return tf.nest.pack_sequence_as(structure, flat_sequence)


def is_nested(structure: Nest) -> bool:
    """Whether `structure` is a list, tuple or dict rather than a tensor."""
    return tf.nest.is_nested(structure)


# ---- Random numbers; a seed is an int64 tensor [2] ----


def normal(shape: Shape, *, stddev: Any = 1.0, dtype: str = "float32", seed: Tensor) -> Tensor:
    """Draws from a normal distribution of mean 0."""
    return tf.random.stateless_normal(shape, seed, stddev=stddev, dtype=dtype)


def uniform(shape: Shape, *, seed: Tensor) -> Tensor:
    """Draws float32 numbers from [0, 1)."""
    return tf.random.stateless_uniform(shape, seed)


def random_bits(shape: Shape, dtype: str, *, seed: Tensor) -> Tensor:
    """Draws unsigned integers of which every bit is random, as `jax.random.bits` does."""
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=dtype)


def fold_in(seed: Tensor, data: int) -> Tensor:
    """A seed for each value of `data`, as `jax.random.fold_in` makes it."""
    return tf.random.fold_in(seed, data)


def split_seed(seed: Tensor) -> list[Tensor]:
    """Two independent seeds made of one, as `jax.random.split` makes them."""
    return tf.unstack(tf.random.split(seed, 2))


# ---- Lists that grow in a graph ----


def tensor_list(like: Tensor) -> Tensor:
    """An empty list of tensors of the shape and dtype of `like`; itself a scalar tensor.

    It holds references to its tensors. A tensor [n, ...] would be copied for each one appended.
    """
    return tf.raw_ops.EmptyTensorList(
        element_shape=like.shape, max_num_elements=-1, element_dtype=like.dtype
    )


def append(tensors: Tensor, x: Tensor) -> Tensor:
    """A `tensor_list` with one more tensor."""
    return tf.raw_ops.TensorListPushBack(input_handle=tensors, tensor=x)


def to_arrays(tensors: Tensor, shape: Shape, dtype: str) -> list[np.ndarray]:
    """The tensors of a `tensor_list`, of a shape and dtype, as NumPy arrays. Eager only."""
    return [
        np.asarray(
            tf.raw_ops.TensorListGetItem(
                input_handle=tensors, index=i, element_shape=shape, element_dtype=dtype
            )
        )
        for i in range(int(tf.raw_ops.TensorListLength(input_handle=tensors)))
    ]
