"""A model's outputs for rows of tokens of different lengths, with little padding.

If a model accepts any number of tokens, rows are sorted by length and each batch is cut to
its longest row. This does not change the outputs of models that ignore padding, as BERT's
attention does. It is checked: one row is computed with and without its padding, and if the
outputs differ, all rows are computed in full.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_STEP = 32  # lengths are multiples of this, so that kernels are reused
_MASKED = -1e9  # as `fedlab.models.bert` adds to the logits of padding
_TOLERANCE = 1e-4  # float32 rounds to about 1e-6


def outputs(
    model: "tf.keras.Model",
    columns: Callable[[np.ndarray, int], Mapping[str, np.ndarray]],
    lengths: Sequence[int] | np.ndarray,
    max_length: int,
    batch_size: int,
) -> np.ndarray:
    """Returns a model's outputs for rows of tokens: an array [n, ...].

    If there is an output per token, outputs of padding that were not computed are -1e9.

    Args:
      model: a Keras model with one output.
      columns: (rows, length) -> inputs for these rows. Rows are int64 [k], inputs are a
        dict: name -> [k, length].
      lengths: int [n], how many tokens of each row are not padding. Padding comes last.
      max_length: maximum number of tokens, and the number of tokens of every row if the
        model was built for one length.
      batch_size: rows per step.

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
    compute = model.predict_on_batch
    found: Any = None
    # The check computes one row in full and traces a graph, which does not pay for one batch.
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
    from fedlab.learner import input_names  # imports TensorFlow

    inputs = model.inputs if input_names(model) else ()
    return bool(inputs) and all(tuple(tensor.shape) == (None, None) for tensor in inputs)


_functions = weakref.WeakKeyDictionary()


def _for_any_length(model):
    """Returns a function like `predict_on_batch`, but compiled once for all shapes."""
    # Only when needed: `fedlab squad show` starts faster.
    import tensorflow as tf

    from fedlab.learner import input_names

    names = input_names(model)
    if model not in _functions:
        own = weakref.ref(model)  # the dict must not keep the model alive
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
