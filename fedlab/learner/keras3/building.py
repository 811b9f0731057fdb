"""Parts of models that the versions of Keras need in different forms."""

import keras


def positions(ids: keras.KerasTensor) -> keras.KerasTensor:
    """Returns 0, 1, ... for the columns of a symbolic tensor [batch, length].

    Returns:
      An int32 tensor [length], or [1, length].
    """
    # A symbolic tensor does not tell its length, from which a range could be made.
    return keras.ops.cumsum(keras.ops.ones_like(ids[:1, :]), axis=1) - 1


def head_mask(mask: keras.KerasTensor) -> keras.KerasTensor:
    """Returns a mask of tokens as `Attention` takes it for several heads.

    Args:
      mask: a symbolic tensor [batch, length] of 0 and 1.

    Returns:
      A mask of values for `Attention` on tensors [batch, heads, length, d].
    """
    return keras.layers.Reshape((1, 1, -1))(keras.ops.cast(mask, "bool"))
