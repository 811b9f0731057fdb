"""Image models whose base was trained elsewhere, with a new head for the classes at hand.

```
images -> resize and convert the channels, if the base needs it -> base -> Dense "head"
```
"""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import fedlab as fl
from fedlab.models.images import compile_classifier

layers = tf.keras.layers


def load(
    file: str | os.PathLike,
    num_classes: int,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    application: str | None = None,
    image_size: int = 96,
    freeze_base: bool = True,
    learning_rate: float = 0.1,
) -> tf.keras.Sequential:
    """Builds a classifier on a pretrained base.

    Args:
      file: a model as `fedlab.models.load` reads it, such as a .keras file. Its last Dense
        layer, and what follows it, gives way to the new head; without a Dense layer, the
        whole model is the base. With `application`, a file of its weights without the
        classifier ("notop").
      num_classes: number of labels.
      image_shape: height, width, channels of the images, whose pixels are in [0, 1].
      application: the name of a builder in `tf.keras.applications`, such as "MobileNetV2".
        Pixels are then scaled as its `preprocess_input` does.
      image_size: height and width that an application's base sees.
      freeze_base: whether only the head trains. Otherwise base and head do.
      learning_rate: of the SGD optimizer.

    Returns:
      The compiled model: logits, cross-entropy, accuracy.

    Raises:
      FileNotFoundError, ValueError: the file cannot be used; the message says why.
    """
    if application is None:
        base, scaling = _base(file), None
    else:
        base, scaling = _application(application, file, image_size)
    height, width, channels = image_shape
    wanted = base.inputs[0].shape[1:]
    size = tuple(n or own for n, own in zip(wanted[:2], (height, width)))
    adapters: list[Any] = []
    if size != (height, width):
        adapters.append(layers.Resizing(*size, name="resize"))
    kernel, bias = _channels(channels, wanted[2] or channels, scaling, file)
    if kernel is not None:
        adapters.append(
            layers.Conv2D(
                kernel.shape[1],
                1,
                kernel_initializer=tf.keras.initializers.Constant(kernel[None, None]),
                bias_initializer=tf.keras.initializers.Constant(bias),
                name="channels",
            )
        )
    pool = [layers.GlobalAveragePooling2D(name="pool")] if len(base.outputs[0].shape) == 4 else []
    model = tf.keras.Sequential(
        [
            layers.Input(tuple(image_shape), name="images"),
            *adapters,
            base,
            *pool,
            layers.Dense(num_classes, name="head"),
        ],
        name="pretrained",
    )
    compile_classifier(model, learning_rate)
    if freeze_base:
        return fl.models.freeze(model, keep="head")
    # What adapts the images is no part of the model that learns.
    names = [layer.name for layer in adapters]
    return fl.models.freeze(model, *names) if names else model


def _base(file: str | os.PathLike) -> tf.keras.Model:
    """Returns the layers of a model before its last Dense layer, as one model."""
    model = fl.models.load(file)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = ", ".join(str(tuple(each.shape)) for each in model.inputs)
        raise ValueError(
            f"--pretrained={file}: expected a model of images, [batch, height, width, channels], "
            f"but its input has the shape {shapes}"
        )
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    features = dense[-1].input if dense else model.outputs[0]
    return tf.keras.Model(model.inputs, features, name="base")


def _application(name: str, file: str | os.PathLike, image_size: int) -> tuple[tf.keras.Model, Any]:
    """Returns (the base of an application with the weights of a file, preprocess_input)."""
    module = application_modules().get(name)
    if module is None:
        known = ", ".join(sorted(application_modules()))
        raise ValueError(f"--application={name}: expected one of {known}")
    try:
        with warnings.catch_warnings():
            # Keras 3 warns of layers that the file lacks, and would leave them random.
            warnings.filterwarnings("error", message="Skipping")
            built = getattr(module, name)(
                include_top=False,
                weights=os.fspath(file),
                input_shape=(image_size, image_size, 3),
                pooling="avg",
            )
    except (ValueError, OSError, KeyError, IndexError, UserWarning) as error:
        first = " ".join(str(error).split())[:200]
        raise ValueError(
            f"--pretrained={file}: expected the weights of {name} without its classifier (a file "
            f'"notop"), for images of --image_size={image_size}; Keras says: {first}'
        ) from None
    return tf.keras.Model(built.inputs, built.outputs[0], name="base"), module.preprocess_input


def application_modules() -> dict[str, Any]:
    """Returns the builders of `tf.keras.applications`: name -> module."""
    found = {}
    for module in vars(tf.keras.applications).values():
        if hasattr(module, "preprocess_input"):
            found.update({name: module for name in vars(module) if name[:1].isupper()})
    return found


def _channels(
    given: int, wanted: int, preprocess_input: Any, file: str | os.PathLike
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns (kernel [given, wanted], bias [wanted]) of a 1 x 1 convolution; None if not needed.

    Every `preprocess_input` is an affine map of a pixel's channels, so that its values at
    black and at the three primary colours determine it.
    """
    if preprocess_input is not None:
        black, *primary = (
            np.asarray(preprocess_input(np.array(pixel, np.float32).reshape(1, 1, 1, 3)))[0, 0, 0]
            for pixel in ([0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255])
        )
        kernel, bias = np.stack(primary) - black, black
    elif given == wanted:
        return None, None
    else:
        kernel, bias = np.eye(wanted, dtype=np.float32), np.zeros(wanted, np.float32)
    if given == 1:  # grey
        kernel = kernel.sum(axis=0, keepdims=True)
    elif given != len(kernel):
        raise ValueError(
            f"--pretrained={file}: expected a model for images with {given} channels; its input "
            f"has {wanted}"
        )
    return kernel, bias
