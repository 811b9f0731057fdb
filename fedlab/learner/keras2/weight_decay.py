"""Excludes variables from a Keras optimizer's weight decay."""

from collections.abc import Sequence

import tensorflow as tf


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
