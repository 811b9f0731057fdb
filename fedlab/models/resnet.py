"""ResNet-18 with group normalization, the model of the federated CIFAR-100.

Identity Mappings in Deep Residual Networks
Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun. ECCV 2016.
https://arxiv.org/abs/1603.05027

The Non-IID Data Quagmire of Decentralized Machine Learning
Kevin Hsieh, Amar Phanishayee, Onur Mutlu, Phillip Gibbons. ICML 2020.
https://arxiv.org/abs/1910.00189
"""

from collections.abc import Sequence

import tensorflow as tf

from fedlab import _checks
from fedlab.models.images import check_shape, compile_classifier

layers = tf.keras.layers

_WEIGHT_DECAY = 1e-4


def resnet18(
    num_classes: int = 100,
    *,
    input_shape: Sequence[int] = (24, 24, 3),
    strides: int = 1,
    groups: int = 32,
    weight_decay: float = _WEIGHT_DECAY,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.1,
) -> tf.keras.Model:
    """Builds ResNet-18 (version 2) with group instead of batch normalization.

    Reddi et al. 2020, appendix B, as in the code of TensorFlow Federated:

    ```
    7 x 7 convolution, 64 channels, stride 2; normalization; ReLU; 3 x 3 max pooling, stride 2
    stages of 64, 128, 256, 512 channels, two blocks each:
        normalization; ReLU; 3 x 3 convolution; normalization; ReLU; 3 x 3 convolution; + input
    normalization; ReLU; average over all pixels
    ```

    Batch statistics differ between clients, which group normalization does not need
    (Hsieh et al. 2020, section 5).

    Args:
      num_classes: number of labels.
      input_shape: of an image: height, width, channels. Images of CIFAR-100 are cropped
        to 24 x 24 pixels.
      strides: of the first block of the stages after the first. 1 as in TFF's code; 2 as
        in the original ResNet, which is four to sixteen times faster on larger images.
      groups: of the normalization; a divisor of 64.
      weight_decay: factor of the squared weights in the loss; 0 for none.
      learning_rate: of the SGD optimizer.

    Returns:
      The compiled model: float32 images -> logits; 11,227,812 parameters for CIFAR-100.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> resnet18().count_params()
      11227812
    """
    _checks.check_int("num_classes", num_classes)
    _checks.check_int("strides", strides, 1, 2)
    _checks.check_number("weight_decay", weight_decay, 0)
    if not _checks.is_int(groups, 1) or 64 % groups:
        raise _checks.value_error("groups", groups, "a divisor of 64, the number of channels")
    check_shape(input_shape)
    regularizer = tf.keras.regularizers.l2(weight_decay) if weight_decay else None

    def convolution(x, filters, size, stride=1, padding="same"):
        return layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=regularizer,
        )(x)

    def normalized(x):
        return layers.GroupNormalization(groups)(x)

    def activated(x):
        return layers.ReLU()(normalized(x))

    def block(x, filters, stride, is_first):
        residual = convolution(x if is_first else activated(x), filters, 3, stride)
        residual = convolution(activated(residual), filters, 3)
        if stride > 1 or x.shape[-1] != filters:
            x = normalized(convolution(x, filters, 1, stride, "valid"))
        return layers.Add()([x, residual])

    images = layers.Input(tuple(input_shape), name="images")
    x = activated(convolution(images, 64, 7, 2))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, filters in enumerate((64, 128, 256, 512)):
        for i in range(2):
            stride = strides if stage and not i else 1
            x = block(x, filters, stride, is_first=not stage and not i)
    x = layers.GlobalAveragePooling2D()(activated(x))
    logits = layers.Dense(
        num_classes,
        kernel_initializer=tf.keras.initializers.RandomNormal(stddev=0.01),
        kernel_regularizer=regularizer,
        bias_regularizer=regularizer,
    )(x)
    return compile_classifier(tf.keras.Model(images, logits, name="resnet18"), learning_rate)
