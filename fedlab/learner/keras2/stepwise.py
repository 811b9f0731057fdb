"""Copies of recurrent models that read one sequence in parts."""

import tensorflow as tf

from fedlab.learner.keras2.graph import is_functional


def stepwise(model: tf.keras.Model) -> tf.keras.Model:
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
    inputs = [
        tf.keras.Input(batch_shape=(1, None, *tensor.shape[2:]), dtype=tensor.dtype)
        for tensor in model.inputs
    ]
    return tf.keras.models.clone_model(model, input_tensors=inputs, clone_function=_copy_layer)


def _copy_layer(layer):
    if is_functional(layer):
        return _copy(layer)
    config = layer.get_config()
    if isinstance(layer, tf.keras.layers.RNN):
        config["stateful"] = True
    # The fixed batch size and length of a Sequential model's first layer.
    config.pop("batch_input_shape", None)
    return type(layer).from_config(config)
