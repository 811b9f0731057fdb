"""Copies of what a Keras model is compiled with."""


def copy_optimizer(optimizer):
    """A Keras optimizer with the settings of another and no state. What it excludes from weight decay depends on the model."""
    return type(optimizer).from_config(optimizer.get_config())


def weight_decay_exclusions(optimizer, variables):
    """Whether a Keras optimizer excludes each variable from its weight decay, as `exclude_from_weight_decay` was told.

    Args:
      optimizer: a Keras optimizer.
      variables: the model's variables, or None where they are not known.

    Returns:
      One bool per variable; none where the variables are not known.

    Raises:
      ValueError: the optimizer excludes some, and the variables are not known.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not (getattr(optimizer, "_exclude_from_weight_decay", None) or getattr(optimizer, "_exclude_from_weight_decay_names", None)):
        return [False] * len(variables or ())
    if variables is None:
        raise ValueError(f"{type(optimizer).__name__} excludes variables from weight decay: pass variables=model.trainable_variables.")
    return [not optimizer._use_weight_decay(v) for v in variables]


def exclude_from_weight_decay(optimizer, variables):
    """Excludes these variables, and no others, from a Keras optimizer's weight decay, whether it is built or not."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if variables:
        optimizer._exclude_from_weight_decay = [optimizer._var_key(v) for v in variables]
        optimizer._exclude_from_weight_decay_names = []
