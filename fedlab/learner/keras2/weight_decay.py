"""Which variables a Keras optimizer excludes from weight decay."""

from collections.abc import Sequence

import tensorflow as tf


def weight_decay_exclusions(
    optimizer: tf.keras.optimizers.Optimizer, variables: Sequence[tf.Variable] | None
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
    if not (
        getattr(optimizer, "_exclude_from_weight_decay", None)
        or getattr(optimizer, "_exclude_from_weight_decay_names", None)
    ):
        return [False] * len(variables or ())
    if variables is None:
        raise ValueError(
            f"{type(optimizer).__name__} excludes variables from weight decay: pass "
            "variables=model.trainable_variables"
        )
    return [not optimizer._use_weight_decay(v) for v in variables]


def exclude_from_weight_decay(
    optimizer: tf.keras.optimizers.Optimizer, variables: Sequence[tf.Variable]
) -> None:
    """Excludes exactly these variables from a Keras optimizer's weight decay.

    The optimizer may be built or not.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if variables:
        optimizer._exclude_from_weight_decay = [optimizer._var_key(v) for v in variables]
        optimizer._exclude_from_weight_decay_names = []
