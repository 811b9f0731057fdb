"""A model's outputs for rows of tokens of many lengths, with little of the work spent on padding.

A model that takes any number of tokens is given the rows in the order of their lengths,
and each batch ends with its longest row. Nothing changes by that where padding counts
for nothing, as in BERT, whose attention leaves it out. Whether it does is not taken on
trust: one row is computed with and without its padding, and a model that tells them
apart is given all rows in full.
"""

import weakref

import numpy as np

_STEP = 32  # lengths are multiples of it, so that kernels can be reused
_MASKED = -1e9  # what `fedlab.models.bert` lowers the logits of padding by
_TOLERANCE = 1e-4  # float32 rounds to about 1e-6


def outputs(model, columns, lengths, max_length, batch_size):
    """What a model gives for rows of tokens: an array [n, ...] in the order of the rows.

    Where an output has a place for each token, those that were not computed, of padding
    alone, are -1e9.

    Args:
      model: a Keras model of one output.
      columns: a function of (rows, int64 [k]; length) that gives the model's inputs for
        these rows: name -> [k, length].
      lengths: int [n], how many tokens of each row are not padding; they come first.
      max_length: tokens of the longest row that may come, and of every row for a model
        that is built for one length.
      batch_size: rows a step.

    Raises:
      ValueError: the model has several outputs.

    Example:
      >>> from fedlab.models import bert
      >>> sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1)
      >>> model = bert.question_answering(vocab_size=9, **sizes)
      >>> names = ("input_ids", "token_type_ids", "attention_mask")
      >>> def columns(rows, length):
      ...     used = np.arange(length) < np.array([3, 40])[rows, None]
      ...     return {name: used.astype(np.int32) for name in names}
      >>> outputs(model, columns, [3, 40], max_length=96, batch_size=1).shape
      (2, 2, 96)
    """
    order = np.argsort(lengths, kind="stable")
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    needed = [min(max_length, -(-int(lengths[rows[-1]]) // _STEP) * _STEP) for rows in batches]
    compute, found = model.predict_on_batch, None
    # The comparison costs a row in full, and a graph for any length: not for what is
    # one batch anyway.
    if len(batches) > 1 and needed[0] < max_length and _takes_any_length(model):
        cut, whole = (
            _checked(model, _for_any_length(model)(columns(order[:1], length)))
            for length in (needed[0], max_length)
        )
        if _is_same(cut, whole):
            compute, found = (
                _for_any_length(model),
                np.full([len(order), *whole.shape[1:]], _MASKED, whole.dtype),
            )
    if found is None:
        needed = [max_length] * len(batches)
    for rows, length in zip(batches, needed):
        part = _checked(model, compute(columns(rows, length)))
        if found is None:
            found = np.empty([len(order), *part.shape[1:]], part.dtype)
        found[(rows, *map(slice, part.shape[1:]))] = part
    return found


def _takes_any_length(model):
    inputs = getattr(model, "inputs", None)
    return bool(inputs) and all(tensor.shape.as_list() == [None, None] for tensor in inputs)


_functions = weakref.WeakKeyDictionary()


def _for_any_length(model):
    """Like the model's `predict_on_batch`, but compiled once for all shapes."""
    import tensorflow as tf  # `fedlab squad show` without a model is quicker without it

    names = model.input_names
    if model not in _functions:
        own = weakref.ref(model)  # so that the table does not keep it
        specs = {name: tf.TensorSpec([None, None], tf.int32) for name in names}
        _functions[model] = tf.function(
            lambda inputs: own()(inputs, training=False), input_signature=[specs]
        )

    def compute(columns):
        found = _functions[model]({name: tf.convert_to_tensor(columns[name]) for name in names})
        return tf.nest.map_structure(np.asarray, found)

    return compute


def _checked(model, found):
    if not isinstance(found, np.ndarray):
        raise ValueError(f"model {model.name!r}: expected one output, got {len(found)} outputs")
    return found


def _is_same(cut, whole):
    """Returns whether a row has the same outputs, up to rounding, with and without padding."""
    both = tuple(map(slice, cut.shape))
    rest = np.ones(whole.shape, bool)
    rest[both] = False
    return (
        whole[both].shape == cut.shape
        and np.allclose(cut, whole[both], rtol=_TOLERANCE, atol=_TOLERANCE)
        and bool((whole[rest] < _MASKED / 2).all())
    )
