"""Copies of recurrent models that read one sequence in parts."""

import keras

from fedlab.learner.keras3.cloning import copy_of_layer, made_from, rebuilt
from fedlab.learner.keras3.graph import is_functional


def stepwise(model: keras.Model) -> keras.Model:
    """Returns a copy of a recurrent model that reads one sequence in parts of any length.

    Its recurrent layers are stateful and start from zero. The copy is not compiled.

    Args:
      model: a Sequential or Functional model with inputs [batch, time, ...], stateful or
        not, of any fixed batch size and length or none.

    Raises:
      ValueError: the model cannot be copied.
      TypeError: a layer cannot be made from its configuration.
    """
    copy = _copy(model)
    copy.set_weights(model.get_weights())
    return copy


def _copy(model):
    return rebuilt(model, _copy_layer, _new_input)


def _new_input(tensor):
    return keras.Input(batch_shape=(1, None, *tensor.shape[2:]), dtype=tensor.dtype)


def _copy_layer(layer):
    if is_functional(layer):
        return _copy(layer)
    if not isinstance(layer, keras.layers.RNN):
        return copy_of_layer(layer)
    return made_from(layer, {**layer.get_config(), "stateful": True})
