"""The image classifiers of the papers that introduced the federated image data sets.

Every builder returns a compiled Sequential model: float32 images
[batch, height, width, channels] -> float32 logits [batch, num_classes]. The papers' models
end in a softmax; logits with a loss that applies it are the same, and more exact.

    Communication-Efficient Learning of Deep Networks from Decentralized Data
    Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Aguera y Arcas.
    AISTATS 2017. https://arxiv.org/abs/1602.05629

    Adaptive Federated Optimization
    Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    LEAF: A Benchmark for Federated Settings
    Sebastian Caldas et al. 2018. https://arxiv.org/abs/1812.01097
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fedlab import _checks, optimizers

layers = tf.keras.layers


def two_nn(
    num_classes: int = 10,
    *,
    input_shape: Sequence[int] = (28, 28, 1),
    hidden_units: int = 200,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.1,
) -> tf.keras.Sequential:
    """Builds the "2NN" of McMahan et al. (section 3): two hidden layers of 200 ReLU units.

    Args:
      num_classes: number of labels, 1 or more.
      input_shape: of an image: height, width, channels.
      hidden_units: units per hidden layer.
      learning_rate: of the SGD optimizer. The paper tunes it per experiment.

    Returns:
      The compiled model; 199,210 parameters for MNIST.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> two_nn().count_params()
      199210
    """
    _checks.check_int("hidden_units", hidden_units)
    return classifier(
        "two_nn",
        input_shape,
        [
            layers.Flatten(),
            layers.Dense(hidden_units, activation="relu"),
            layers.Dense(hidden_units, activation="relu"),
        ],
        num_classes,
        learning_rate,
    )


def fedavg_cnn(
    num_classes: int = 10,
    *,
    input_shape: Sequence[int] = (28, 28, 1),
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.1,
) -> tf.keras.Sequential:
    """Builds the CNN of McMahan et al. (section 3).

    ```
    5 x 5 convolution, 32 channels, ReLU; 2 x 2 max pooling
    5 x 5 convolution, 64 channels, ReLU; 2 x 2 max pooling
    512 units, ReLU
    ```

    Args:
      num_classes, input_shape, learning_rate: as in `two_nn`.

    Returns:
      The compiled model; 1,663,370 parameters for MNIST.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> fedavg_cnn().count_params()
      1663370
    """
    return classifier(
        "fedavg_cnn",
        input_shape,
        [
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2, padding="same"),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
        ],
        num_classes,
        learning_rate,
    )


def emnist_cnn(
    num_classes: int = 62,
    *,
    input_shape: Sequence[int] = (28, 28, 1),
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 10**-1.5,
) -> tf.keras.Sequential:
    """Builds the CNN with dropout of Reddi et al. (appendix B) for EMNIST.

    ```
    3 x 3 convolution, 32 channels, ReLU; 3 x 3 convolution, 64 channels, ReLU
    2 x 2 max pooling; dropout 0.25
    128 units, ReLU; dropout 0.5
    ```

    Args:
      num_classes: 62 for all characters, 10 for digits only.
      input_shape: as in `two_nn`; at least 6 x 6 pixels.
      learning_rate: of the SGD optimizer; the default is the paper's with Adam on the
        server.

    Returns:
      The compiled model; 1,206,590 parameters for 62 classes, 1,199,882 for 10.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> emnist_cnn().count_params()
      1206590
    """
    return classifier(
        "emnist_cnn",
        input_shape,
        [
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
        ],
        num_classes,
        learning_rate,
        minimum_size=6,
    )


def lenet(
    num_classes: int = 10,
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.01,
) -> tf.keras.Sequential:
    """Builds the CNN of NIID-Bench (Li et al. 2022, section 5), which is like LeNet-5.

    ```
    5 x 5 convolution, 6 channels, ReLU; 2 x 2 max pooling
    5 x 5 convolution, 16 channels, ReLU; 2 x 2 max pooling
    120 units, ReLU; 84 units, ReLU
    ```

    Federated Learning on Non-IID Data Silos: An Experimental Study.
    Qinbin Li, Yiqun Diao, Quan Chen, Bingsheng He. ICDE 2022.
    https://arxiv.org/abs/2102.02079

    Args:
      num_classes: as in `two_nn`.
      input_shape: as in `two_nn`; at least 16 x 16 pixels.
      learning_rate: of the SGD optimizer; the default is the paper's.

    Returns:
      The compiled model; 62,006 parameters for CIFAR-10.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> lenet().count_params()
      62006
    """
    return classifier(
        "lenet",
        input_shape,
        [
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
        ],
        num_classes,
        learning_rate,
        minimum_size=16,
    )


def celeba_cnn(
    num_classes: int = 2,
    *,
    input_shape: Sequence[int] = (84, 84, 3),
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.1,
) -> tf.keras.Sequential:
    """Builds the CNN of LEAF for CelebA: four 3 x 3 convolutions with batch normalization.

    ```
    four times: 3 x 3 convolution, 32 channels; batch normalization; 2 x 2 max pooling; ReLU
    ```

    Departure from LEAF's code: the moving averages of batch normalization are used for
    evaluation; LEAF normalizes by each batch also then.

    Args:
      num_classes: 2, for an attribute that an image has or does not have.
      input_shape: as in `two_nn`.
      learning_rate: of the SGD optimizer; LEAF's experiments use 0.1.

    Returns:
      The compiled model; 31,458 parameters for CelebA, 256 of them moving averages.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> celeba_cnn().count_params()
      31458
    """
    blocks: list[Any] = []
    for _ in range(4):
        blocks += [
            layers.Conv2D(32, 3, padding="same"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2, padding="same"),
            layers.ReLU(),
        ]
    return classifier(
        "celeba_cnn", input_shape, [*blocks, layers.Flatten()], num_classes, learning_rate
    )


def classifier(
    name: str,
    input_shape: Sequence[int],
    hidden: Sequence[Any],
    num_classes: int,
    learning_rate: Any,
    *,
    minimum_size: int = 1,
) -> tf.keras.Sequential:
    """Builds and compiles a Sequential classifier.

    Args:
      name: the model's name.
      input_shape: of an image: height, width, channels.
      hidden: the layers before the logits.
      num_classes: number of labels.
      learning_rate: of the SGD optimizer, a positive number or a Keras schedule.
      minimum_size: the smallest height and width.

    Returns:
      The model, with the cross-entropy of its logits as the loss, and accuracy.

    Raises:
      ValueError: an argument is out of its range.
    """
    _checks.check_int("num_classes", num_classes)
    check_shape(input_shape, minimum_size)
    model = tf.keras.Sequential(
        [layers.Input(tuple(input_shape), name="images"), *hidden, layers.Dense(num_classes)],
        name=name,
    )
    return compile_classifier(model, learning_rate)


def compile_classifier(model: tf.keras.Model, learning_rate: Any) -> tf.keras.Model:
    """Compiles a classifier with logits: SGD, cross-entropy, accuracy.

    Args:
      model: a Keras model: inputs -> logits [batch, num_classes].
      learning_rate: a positive number or a Keras schedule.

    Returns:
      The model.
    """
    if not isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        optimizers.check_rate(learning_rate)
    model.compile(
        optimizer=tf.keras.optimizers.SGD(learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def check_shape(input_shape: Any, minimum_size: int = 1) -> None:
    """Checks the shape of an image.

    Raises:
      ValueError: not three integers that are large enough.
    """
    sizes = (minimum_size, minimum_size, 1)
    if (
        not isinstance(input_shape, Sequence)
        or len(input_shape) != 3
        or not all(_checks.is_int(size, least) for size, least in zip(input_shape, sizes))
    ):
        expected = f"(height, width, channels) of at least {minimum_size} x {minimum_size} pixels"
        raise _checks.value_error("input_shape", input_shape, expected)
