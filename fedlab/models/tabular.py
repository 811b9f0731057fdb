"""Models of vectors and of ratings: logistic regression and matrix factorization.

Federated Optimization in Heterogeneous Networks
Tian Li et al. MLSys 2020. https://arxiv.org/abs/1812.06127

Federated Reconstruction: Partially Local Federated Learning
Karan Singhal et al. NeurIPS 2021. https://arxiv.org/abs/2102.03448
"""

import tensorflow as tf

from fedlab import _checks, optimizers
from fedlab.models.images import compile_classifier

layers = tf.keras.layers


def logistic_regression(
    num_features: int = 60,
    num_classes: int = 10,
    *,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.01,
) -> tf.keras.Sequential:
    """Builds a linear classifier whose weights are initially zero.

    Args:
      num_features: length of an input.
      num_classes: number of labels.
      learning_rate: of the SGD optimizer; 0.01 is that of the FedProx paper.

    Returns:
      The compiled model: float32 [batch, num_features] -> logits [batch, num_classes];
      610 parameters for the FedProx paper's synthetic data (section 5.1).

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> logistic_regression().count_params()
      610
    """
    _checks.check_int("num_features", num_features)
    _checks.check_int("num_classes", num_classes)
    model = tf.keras.Sequential(
        [
            layers.Input([num_features], name="features"),
            layers.Dense(num_classes, kernel_initializer="zeros"),
        ],
        name="logistic_regression",
    )
    return compile_classifier(model, learning_rate)


def matrix_factorization(
    num_items: int = 3706,
    num_factors: int = 50,
    *,
    mean_rating: float = 3.5,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.5,
) -> tf.keras.Sequential:
    """Builds the matrix factorization of FedRecon (Singhal et al. 2021, section 5).

    ```
    rating = item_factors . user_factors + user_bias
    ```

    A client is one user, so that the model has the factors of one user: the kernel and the
    bias of the layer "user". They are for the client alone: train with
    `fedlab.algorithms.fed_recon(["user"])`.

    Args:
      num_items: number of items that can be rated: 3,706 in MovieLens 1M.
      num_factors: length of the factors.
      mean_rating: the initial bias.
      learning_rate: of the SGD optimizer, for the items; 0.5 is the paper's.

    Returns:
      The compiled model: int item [batch] -> rating float32 [batch]. The loss is the
      mean squared error, the metric its root. For MovieLens 1M, the server has 185,300
      weights and a client 51.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> matrix_factorization().count_params()
      185351
    """
    _checks.check_int("num_items", num_items)
    _checks.check_int("num_factors", num_factors)
    _checks.check_number("mean_rating", mean_rating)
    if not isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
        optimizers.check_rate(learning_rate)
    bias = tf.keras.initializers.Constant(mean_rating)
    model = tf.keras.Sequential(
        [
            layers.Input([], dtype="int32", name="item"),
            layers.Embedding(num_items, num_factors, name="items"),
            layers.Dense(1, bias_initializer=bias, name="user"),
            layers.Reshape([], name="rating"),
        ],
        name="matrix_factorization",
    )
    model.compile(
        optimizer=tf.keras.optimizers.SGD(learning_rate),
        loss=tf.keras.losses.MeanSquaredError(),
        metrics=[tf.keras.metrics.RootMeanSquaredError(name="rmse")],
    )
    return model
