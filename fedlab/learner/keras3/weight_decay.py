"""Which variables a Keras optimizer excludes from weight decay."""

from collections.abc import Sequence

import keras

from fedlab.learner.variables import variables_of


def weight_decay_exclusions(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable] | None
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
        or getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    ):
        return [False] * len(variables or ())
    if variables is None:
        raise ValueError(
            f"{type(optimizer).__name__} excludes variables from weight decay: pass "
            "variables=model.trainable_variables"
        )
    # As in Keras: patterns are matched with the names of TensorFlow's variables.
    return [not optimizer._use_weight_decay(v) for v in variables_of(variables)]


def exclude_from_weight_decay(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> None:
    """Excludes exactly these variables from a Keras optimizer's weight decay."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if variables:
        optimizer.exclude_from_weight_decay(var_list=list(variables))
