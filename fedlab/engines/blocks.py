"""The examples of a block of clients as tensors, from which a graph picks each batch by its rows.

The examples are not copied for each epoch. Only the rows grow with the epochs, by 4 bytes for each
example.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab import ops


class Block(NamedTuple):
    """The examples and batches of some clients.

    Attributes:
      columns: name -> variant [clients]: each client's column, as `pack` returns it.
      rows: int32 [examples of all batches]: which of its client's examples each batch holds, one
        batch after the other.
      batches: int64 [steps, 2]: the first of each batch's rows, and how many there are.
      num_examples: float32 [steps]: how many of a batch's rows are not padding.
    """

    columns: dict
    rows: Any
    batches: Any
    num_examples: Any


Specs = dict[str, tf.TensorSpec]
"""The clients' columns: name -> [None, ...], with None where clients differ in shape."""


def column_specs(schema: Mapping[str, Any]) -> Specs:
    """The `Specs` of a `ClientData.schema`."""
    return {
        name: tf.TensorSpec([None, *column.shape], _dtype(column.dtype))
        for name, column in schema.items()
    }


def column_specs_of(groups: Sequence[Mapping[str, np.ndarray]]) -> Specs:
    """The `Specs` of several clients' columns."""
    specs: Specs = {}
    for name, column in groups[0].items():
        shapes = zip(*(columns[name].shape[1:] for columns in groups))
        shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in shapes]
        specs[name] = tf.TensorSpec([None, *shape], _dtype(column.dtype))
    return specs


def _dtype(dtype):
    return tf.string if dtype.kind in "OSU" else tf.as_dtype(dtype)


def pack(columns: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """A client's columns as scalar variants: lists of one tensor.

    Variants of clients whose columns differ in shape can be stacked. Stacking them copies no
    example, and neither does reading one in a graph.
    """
    packed, made = {}, {}
    with tf.device("CPU:0"):
        for name, array in columns.items():
            # Two columns of the same values, such as the inputs and targets of an autoencoder, are
            # one tensor.
            same = array.ctypes.data, array.shape, array.strides, array.dtype
            if same not in made:
                column = tf.convert_to_tensor(array)
                made[same] = ops.append(_empty_list(column.dtype), column)
            packed[name] = made[same]
    return packed


@functools.cache
def _empty_list(dtype):
    """An empty list of tensors of any shape.

    It is made once, since TensorFlow leaks 16 bytes with every eager operation.
    """
    return tf.raw_ops.EmptyTensorList(element_shape=-1, max_num_elements=-1, element_dtype=dtype)


def make_block(parts: Sequence[Any], packed: Sequence[Mapping[str, tf.Tensor]]) -> Block:
    """Lays clients out.

    Args:
      parts: the `Batches` of each client.
      packed: what `pack` returns for each client.
    """
    sizes = np.concatenate([part.real for part in parts]).astype(np.int64)
    return Block(
        {name: tf.stack([each[name] for each in packed]) for name in packed[0]},
        tf.constant(np.concatenate([_real_rows(part) for part in parts])),
        tf.constant(np.stack([_starts(sizes), sizes], axis=1)),
        tf.constant(np.concatenate([part.examples for part in parts])),
    )


def all_steps(block: Block) -> tf.Tensor:
    """The steps of all batches of a block, int32 [2]: the first, and the one after the last."""
    return tf.constant([0, block.batches.shape[0]])


def _starts(sizes):
    """Where each of several parts starts that lie one after the other."""
    return np.cumsum([0, *sizes], dtype=np.int64)[:-1]


def _real_rows(part):
    """The rows of a client's batches without those that fill the last columns of short ones."""
    if (part.real == part.rows.shape[1]).all():
        return part.rows.reshape(-1)
    return part.rows[np.arange(part.rows.shape[1]) < part.real[:, None]]


def examples_of(block: Block, k: Any, specs: Specs) -> dict[str, tf.Tensor]:
    """In a graph: the columns of client k of a block, name -> [n, ...]."""
    with tf.device("CPU:0"):  # variants of strings cannot be copied to a GPU
        return {name: _unpack(column[k], specs[name]) for name, column in block.columns.items()}


def _unpack(packed, spec):
    shape = tf.constant([-1 if size is None else size for size in spec.shape])
    column = tf.raw_ops.TensorListGetItem(
        input_handle=packed, index=0, element_shape=shape, element_dtype=spec.dtype
    )
    column.set_shape(spec.shape)
    return column


def batch_columns(
    block: Block,
    examples: Mapping[str, tf.Tensor],
    i: Any,
    fixed_size: int | None,
    fill: Any,
) -> dict[str, tf.Tensor]:
    """In a graph: the columns of batch i, name -> [rows, ...].

    Args:
      block: a `Block`.
      examples: what `examples_of` gives for the client whose batch it is.
      i: the batch's number in the block.
      fixed_size: the batch size that the model is built for, or None.
      fill: a `Fill` for short batches, or None.
    """
    batch = block.batches[i]
    rows = tf.slice(block.rows, batch[:1], batch[1:])
    if fixed_size:
        rows = tf.ensure_shape(tf.pad(rows, [[0, fixed_size - tf.size(rows)]]), [fixed_size])
    with tf.device("CPU:0"):
        columns = {name: tf.gather(column, rows) for name, column in examples.items()}
    if fixed_size and fill:
        columns = _filled(columns, tf.range(fixed_size) < tf.cast(batch[1], tf.int32), fill)
    return columns


def _filled(columns, is_real, fill):
    """The columns of a batch. Rows where `is_real`, bool [batch_size], is false are padding."""

    def chosen(column, otherwise):
        mask = tf.reshape(is_real, [-1] + [1] * (column.shape.rank - 1))
        return tf.where(mask, column, tf.cast(otherwise, column.dtype))

    columns = dict(columns)
    columns["sample_weight"] = chosen(columns.get("sample_weight", tf.ones([fill.batch_size])), 0)
    if fill.ignore_label is not None and "y" in columns:
        columns["y"] = chosen(columns["y"], fill.ignore_label)
    return columns
