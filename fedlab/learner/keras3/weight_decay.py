"""Excludes variables from a Keras optimizer's weight decay."""

from collections.abc import Sequence

import keras


def exclude_from_weight_decay(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> None:
    """Excludes exactly these variables from a Keras optimizer's weight decay."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if variables:
        optimizer.exclude_from_weight_decay(var_list=list(variables))
