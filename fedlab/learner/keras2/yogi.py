"""Yogi as a Keras optimizer."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fedlab.optimizers.adam import adam_factor


@tf.keras.utils.register_keras_serializable(package="fedlab")
class Yogi(tf.keras.optimizers.Optimizer):
    """Yogi (Zaheer et al. 2018, https://papers.nips.cc/paper/8186) for `compile()`.

    Yogi is Adam with a second moment v that changes by at most g ** 2 per step:

        m = beta_1 * m + (1 - beta_1) * g
        v = v - (1 - beta_2) * sign(v - g ** 2) * g ** 2
        rate = learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)
        w = w - rate * m / (sqrt(v) + epsilon)

    in step t = 1, 2, ...

    Args:
      learning_rate: at least 0, or one of `tf.keras.optimizers.schedules`.
      beta_1, beta_2: at least 0 and below 1.
      epsilon: at least 0.
      initial_accumulator_value: v before the first step, at least 0.
      **options: options of every Keras optimizer, such as `clipnorm`.

    Access `fedlab.optimizers.Yogi` before you load a model that was compiled with it:
    this registers the class with Keras. `fedlab.models.load` does so itself.

    Example: the first step has the size of the learning rate, whatever the gradient.
      >>> w = tf.Variable([2.0])
      >>> optimizer = Yogi(0.1, epsilon=0.0, initial_accumulator_value=0.0)
      >>> _ = optimizer.apply_gradients([(tf.constant([7.0]), w)])
      >>> round(float(w[0]), 4)
      1.9
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-3,
        initial_accumulator_value: float = 1e-6,
        *,
        name: str = "Yogi",
        **options: Any,
    ) -> None:
        super().__init__(name=name, **options)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.epsilon, self.initial_accumulator_value = epsilon, initial_accumulator_value

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the moments of each variable."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._momentums = [self.add_variable_from_reference(v, "m") for v in var_list]
        start = [
            tf.fill(v.shape, tf.constant(self.initial_accumulator_value, v.dtype)) for v in var_list
        ]
        self._velocities = [
            self.add_variable_from_reference(v, "v", initial_value=value)
            for v, value in zip(var_list, start)
        ]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Updates one variable."""
        i = self._index_dict[self._var_key(variable)]
        m, v, g = self._momentums[i], self._velocities[i], tf.convert_to_tensor(gradient)
        square = tf.square(g)
        m.assign_add((g - m) * (1 - self.beta_1))
        v.assign_add((1 - self.beta_2) * tf.sign(square - v) * square)
        factor = adam_factor(self.iterations + 1, self.beta_1, self.beta_2)
        rate = tf.cast(self.learning_rate, variable.dtype) * tf.cast(factor, variable.dtype)
        variable.assign_sub(rate * m / (tf.sqrt(v) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        settings = {
            name: getattr(self, name)
            for name in ("beta_1", "beta_2", "epsilon", "initial_accumulator_value")
        }
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            **settings,
        }
