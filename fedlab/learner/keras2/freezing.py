"""Partial fine-tuning: which layers train, and so which weights clients send."""

import fnmatch

import tensorflow as tf
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab import _checks
from fedlab.learner.keras2.cloning import non_trainable_weights, recompile


def freeze(model, *names, keep=()):
    """Freezes layers: they keep their weights bit for bit, and no client sends them.

        train the head only                          freeze(model, keep=["head*"])
        freeze embeddings and the first 4 blocks     freeze(model, *fedlab.models.bert.up_to(4))
        train everything again                       freeze(model, keep=["*"])

    Layers that are not named train. Every call starts anew, and so does the model's optimizer.

    Args:
      model: a Keras model, compiled or not; it is changed.
      *names: names of its layers (`[layer.name for layer in model.layers]`), or patterns as of file names, such as "layer_0_*". By
        default all layers.
      keep: names or patterns of layers to train nevertheless.

    Returns:
      The model.

    Raises:
      ValueError: no layer has such a name, or nothing would be left to train. The model is then unchanged.

    Example:
      >>> import tensorflow as tf
      >>> layers = [tf.keras.layers.Dense(3, input_shape=[2], name="body"), tf.keras.layers.Dense(1, name="head")]
      >>> [weight.shape.as_list() for weight in freeze(tf.keras.Sequential(layers), "body").trainable_weights]
      [[3, 1], [1]]
    """
    if not isinstance(model, tf.keras.Model):
        raise TypeError(f"received {_checks.kind(model)}; allowed: a tf.keras model.")
    keep = [keep] if isinstance(keep, str) else list(keep)
    known = [layer.name for layer in model.layers]
    for pattern in (*names, *keep):
        if not isinstance(pattern, str) or not fnmatch.filter(known, pattern):
            raise ValueError(
                f"no layer is called {pattern!r}; allowed: {', '.join(known)}, or patterns such as 'layer_0_*'."
            )
    trained = [
        layer
        for layer in model.layers
        if _matches(layer, keep) or (names and not _matches(layer, names))
    ]
    if not any(layer.weights for layer in trained):
        raise ValueError(
            f"freezing {', '.join(names) or 'all layers'} leaves nothing to train: pass keep=, such as keep=['head*']."
        )
    model.trainable = True  # a model that is frozen as a whole hides what its layers say
    for layer in model.layers:
        layer.trainable = any(layer is other for other in trained)
    if getattr(model, "_compile_config", None) is not None:
        recompile(model, model)
    return model


def _matches(layer, patterns):
    return any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)


def statistics(model):
    """The non-trainable weights that training may change, such as BatchNormalization's, in order.

    The other non-trainable weights are constants: those of frozen layers, and what `adapt()` has
    computed for a preprocessing layer.
    """
    constant, changing = set(), set()
    for layer in model._flatten_layers():
        if not layer.trainable or isinstance(layer, PreprocessingLayer):
            constant |= {id(w) for w in layer.weights}
        else:  # one that trains inside of a frozen one keeps its statistics up to date
            changing |= {id(w) for w in layer._non_trainable_weights}
    return [w for w in non_trainable_weights(model) if id(w) in changing or id(w) not in constant]
