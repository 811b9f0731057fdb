"""Partial fine-tuning: which layers train, and so which weights clients send."""

import fnmatch
from collections.abc import Sequence

import keras

from fedlab import _checks
from fedlab.learner.copying import is_keras
from fedlab.learner.keras3.cloning import is_adapted, non_trainable_weights, recompile
from fedlab.learner.keras3.graph import is_compiled, layers_of


def freeze(model: keras.Model, *names: str, keep: str | Sequence[str] = ()) -> keras.Model:
    """Freezes layers, whose weights then do not change and are not sent by clients.

        train the head only              freeze(model, keep=["head*"])
        freeze embeddings and 4 blocks   freeze(model, *fedlab.models.bert.up_to(4))
        train everything again           freeze(model, keep=["*"])

    Layers that are not named train. Earlier calls have no effect, and the optimizer of
    a compiled model loses its state.

    Args:
      model: a Keras model, compiled or not; it is changed.
      *names: names of its layers (`[layer.name for layer in model.layers]`), or
        patterns such as "layer_0_*". By default all layers.
      keep: names or patterns of layers that train nevertheless.

    Returns:
      The model.

    Raises:
      TypeError: `model` is not a Keras model.
      ValueError: no layer has such a name, or no layer with weights would be left to
        train. The model is then unchanged.

    Example:
      >>> import keras
      >>> body = keras.layers.Dense(3, name="body")
      >>> head = keras.layers.Dense(1, name="head")
      >>> model = freeze(keras.Sequential([keras.Input([2]), body, head]), "body")
      >>> [tuple(weight.shape) for weight in model.trainable_weights]
      [(3, 1), (1,)]
    """
    if not isinstance(model, keras.Model):
        raise _checks.type_error("model", model, "a keras model")
    keep = [keep] if isinstance(keep, str) else list(keep)
    known = [layer.name for layer in model.layers]
    for pattern in (*names, *keep):
        if not isinstance(pattern, str) or not fnmatch.filter(known, pattern):
            raise ValueError(
                f"no layer is called {pattern!r}: expected {', '.join(known)}, or patterns such as "
                "'layer_0_*'"
            )
    trained = [
        layer
        for layer in model.layers
        if _matches(layer, keep) or (names and not _matches(layer, names))
    ]
    if not any(layer.weights for layer in trained):
        raise ValueError(
            f"freezing {', '.join(names) or 'all layers'} leaves nothing to train: pass keep=, "
            "such as keep=['head*']"
        )
    model.trainable = True  # the layers of a frozen model count as frozen
    for layer in model.layers:
        layer.trainable = any(layer is other for other in trained)
    if is_compiled(model):
        recompile(model, model)
    return model


def _matches(layer, patterns):
    return any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)


def statistics(model: keras.Model) -> list[keras.Variable]:
    """Returns the non-trainable weights that training may change, in order.

    An example are the moving averages of BatchNormalization. The other non-trainable
    weights are constants: those of frozen layers, frozen weights such as the kernel
    beside LoRA, quantized weights, and what `adapt()` has computed for a preprocessing
    layer.
    """
    constant, changing = set(), set()
    for layer in (model, *layers_of(model)):
        if not layer.trainable or is_adapted(layer):
            constant |= {id(w) for w in layer.weights}
            continue
        constant |= {id(w) for w in layer._trainable_variables if not w.trainable}
        own = {id(w) for w in layer._non_trainable_variables}
        if layer.quantization_mode is not None and is_keras(type(layer)):
            constant |= own
        else:  # a layer that trains inside a frozen one still updates its statistics
            changing |= own
    return [w for w in non_trainable_weights(model) if id(w) in changing or id(w) not in constant]
