"""The examples of a block of clients as tensors, from which a graph picks each batch by its rows.

The examples are laid out once, however many epochs the clients train. Only the rows grow with the epochs: by 4 bytes for each example.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.clients.columns import num_rows


class Block(NamedTuple):
    """The examples and batches of some clients, one after the other.

    Attributes:
      columns: name -> [examples of all clients, ...]. Of a column whose rows differ in shape from client to client: all values, [values].
      spans: int64 [clients, 2]: the first of each client's examples, and how many there are.
      shapes: name -> int64 [clients, 1 + dimensions], of such a column: the first of each client's values, and its shape.
      rows: int32 [examples of all batches]: which of its client's examples each batch holds, one batch after the other.
      batches: int64 [steps, 2]: the first of each batch's rows, and how many there are.
      num_examples: float32 [steps]: how many of a batch's rows are not padding.
    """

    columns: dict
    spans: Any
    shapes: dict
    rows: Any
    batches: Any
    num_examples: Any


def open_rows(schema):
    """name -> shape of a row with None where clients differ, of the columns where they do."""
    return {name: column.shape for name, column in schema.items() if column.is_open}


def make_block(parts, open_rows):
    """Lays clients out.

    Args:
      parts: a `Batches` of each client.
      open_rows: see `open_rows`.
    """
    columns, shapes, made = {}, {}, {}
    for name in parts[0].source:
        arrays = [part.source[name] for part in parts]
        # Two columns of the same values, such as the inputs and targets of an autoencoder, are one tensor.
        same = (
            name in open_rows,
            *((array.ctypes.data, array.shape, array.strides, array.dtype) for array in arrays),
        )
        if name in open_rows:
            shapes[name] = tf.constant(
                np.array(
                    [
                        [first, *array.shape]
                        for first, array in zip(_starts([a.size for a in arrays]), arrays)
                    ]
                )
            )
            arrays = [array.reshape(-1) for array in arrays]
        if same not in made:
            made[same] = tf.convert_to_tensor(
                arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            )
        columns[name] = made[same]
    sizes = np.concatenate([part.real for part in parts]).astype(np.int64)
    counts = [num_rows(part.source) for part in parts]
    return Block(
        columns,
        tf.constant(np.stack([_starts(counts), counts], axis=1)),
        shapes,
        tf.constant(np.concatenate([_real_rows(part) for part in parts])),
        tf.constant(np.stack([_starts(sizes), sizes], axis=1)),
        tf.constant(np.concatenate([part.examples for part in parts])),
    )


def all_steps(block):
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


def examples_of(block, k, open_rows):
    """In a graph: the columns of client k of a block, name -> [n, ...]."""
    columns = {}
    for name, column in block.columns.items():
        if name in open_rows:
            shape = tf.unstack(block.shapes[name][k])
            sizes = [
                shape[1],
                *(own if size is None else size for own, size in zip(shape[2:], open_rows[name])),
            ]
            values = tf.slice(column, [shape[0]], [tf.reduce_prod(tf.stack(shape[1:]))])
            columns[name] = tf.reshape(
                values, tf.stack([tf.cast(size, tf.int32) for size in sizes])
            )
            columns[name].set_shape([None, *open_rows[name]])
        else:
            columns[name] = column[block.spans[k, 0] : block.spans[k, 0] + block.spans[k, 1]]
    return columns


def batch_columns(block, examples, i, fixed_size, fill):
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
    if not fixed_size:
        return {name: tf.gather(column, rows) for name, column in examples.items()}
    rows = tf.ensure_shape(tf.pad(rows, [[0, fixed_size - tf.size(rows)]]), [fixed_size])
    columns = {name: tf.gather(column, rows) for name, column in examples.items()}
    return (
        _filled(columns, tf.range(fixed_size) < tf.cast(batch[1], tf.int32), fill)
        if fill
        else columns
    )


def _filled(columns, is_real, fill):
    """The columns of a batch, whose rows count for nothing where `is_real`, bool [batch_size], is false."""

    def chosen(column, otherwise):
        mask = tf.reshape(is_real, [-1] + [1] * (column.shape.rank - 1))
        return tf.where(mask, column, tf.cast(otherwise, column.dtype))

    columns = dict(columns)
    columns["sample_weight"] = chosen(columns.get("sample_weight", tf.ones([fill.batch_size])), 0)
    if fill.ignore_label is not None and "y" in columns:
        columns["y"] = chosen(columns["y"], fill.ignore_label)
    return columns
