"""Weights that the loss does not depend on, which Keras leaves as they are.

An example is BERT's pooler in a model for question answering. Keras passes an optimizer
only the weights that have a gradient, so the others neither decay nor meet their
constraint. A `Learner` returns zeros for them, which an optimizer like AdamW or Ftrl
would not ignore.
"""

import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any

import tensorflow as tf

from fedlab.optimizers.optimizer import Optimizer, part

_unused = weakref.WeakKeyDictionary()  # model -> positions of its trainable weights


def dense(
    gradients: Sequence[Any], variables: Sequence[tf.Variable], models: Sequence[Any]
) -> list[tf.Tensor]:
    """Returns one tensor per weight, and notes which weights have no gradient.

    Args:
      gradients: for each weight a tensor, `tf.IndexedSlices` or None.
      variables: the trainable weights.
      models: a model, and those that it was copied from.
    """
    unused = frozenset(i for i, gradient in enumerate(gradients) if gradient is None)
    for model in models:
        _unused[model] = unused
    found = [
        tf.zeros(variable.shape, variable.dtype) if gradient is None else gradient
        for gradient, variable in zip(gradients, variables)
    ]
    found = [tf.convert_to_tensor(gradient) for gradient in found]
    for gradient, variable in zip(found, variables):
        # TensorFlow does not know the shape if rows may have any length.
        gradient.set_shape(variable.shape)
    return found


def check_any_used(model: Any) -> None:
    """Raises ValueError if a traced loss depends on none of a model's trainable weights."""
    unused = _unused.get(model, ())
    if unused and len(unused) == len(model.trainable_variables):
        raise ValueError(
            f"model {model.name!r} has a loss that depends on none of its trainable weights: "
            "expected a differentiable one"
        )


def unchanged(model: Any, optimizer: Optimizer) -> Optimizer:
    """Returns an optimizer that leaves a model's unused weights as they are.

    Args:
      model: a Keras model. Which weights are unused is known when a step is traced,
        after their gradients.
      optimizer: an `Optimizer` for all trainable weights of the model.
    """
    return _leaving(optimizer, lambda: _unused.get(model, frozenset()))


def _leaving(optimizer: Optimizer, positions: Callable[[], Collection[int]]) -> Optimizer:
    def apply(weights, state, gradients, round_num=None):
        after, state = optimizer.apply(weights, state, gradients, round_num)
        left = positions()
        return [old if i in left else w for i, (old, w) in enumerate(zip(weights, after))], state

    def select(chosen):
        def left():
            unused = positions()
            return {i for i, position in enumerate(chosen) if position in unused}

        return _leaving(part(optimizer, chosen), left)

    return optimizer._replace(apply=apply, part=select)
