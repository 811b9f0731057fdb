"""Which variables a Keras optimizer excludes from weight decay."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fedlab.learner.variables import variables_of

# Attributes of optimizers: the variables, and patterns of names in Keras 2 and Keras 3.
_EXCLUSIONS = (
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_names",
    "_exclude_from_weight_decay_pattern",
)


def weight_decay_exclusions(
    optimizer: tf.keras.optimizers.Optimizer, variables: Sequence[Any] | None
) -> list[bool]:
    """Returns whether a Keras optimizer excludes each variable from weight decay.

    Args:
      optimizer: a Keras optimizer.
      variables: the model's variables, or None if they are not known.

    Returns:
      One bool per variable; an empty list if the variables are not known.

    Raises:
      ValueError: the optimizer excludes variables, but `variables` is None.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not any(getattr(optimizer, name, None) for name in _EXCLUSIONS):
        return [False] * len(variables or ())
    if variables is None:
        raise ValueError(
            f"{type(optimizer).__name__} excludes variables from weight decay: pass "
            "variables=model.trainable_variables"
        )
    # As in Keras: patterns are matched with the names of TensorFlow's variables.
    return [not optimizer._use_weight_decay(v) for v in variables_of(variables)]
