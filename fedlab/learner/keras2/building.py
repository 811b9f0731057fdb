"""Parts of models that the versions of Keras need in different forms."""

import tensorflow as tf


def positions(ids: tf.Tensor) -> tf.Tensor:
    """Returns 0, 1, ... for the columns of a symbolic tensor [batch, length].

    Returns:
      An int32 tensor [length], or [1, length].
    """
    return tf.range(tf.shape(ids)[1])


def head_mask(mask: tf.Tensor) -> tf.Tensor:
    """Returns a mask of tokens as `Attention` takes it for several heads.

    Args:
      mask: a symbolic tensor [batch, length] of 0 and 1.

    Returns:
      A mask of values for `Attention` on tensors [batch, heads, length, d].
    """
    return tf.keras.layers.Reshape((1, -1))(tf.cast(mask, tf.bool))
