"""Yogi as a Keras optimizer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="fedlab")
class Yogi(keras.optimizers.Optimizer):
    """Yogi (Zaheer et al. 2018, https://papers.nips.cc/paper/8186) for `compile()`.

    Yogi is Adam with a second moment v that changes by at most g ** 2 per step:

        m = beta_1 * m + (1 - beta_1) * g
        v = v - (1 - beta_2) * sign(v - g ** 2) * g ** 2
        rate = learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)
        w = w - rate * m / (sqrt(v) + epsilon)

    in step t = 1, 2, ...

    Args:
      learning_rate: at least 0, or one of `keras.optimizers.schedules`.
      beta_1, beta_2: at least 0 and below 1.
      epsilon: at least 0.
      initial_accumulator_value: v before the first step, at least 0.
      **options: options of every Keras optimizer, such as `clipnorm`.

    Access `fedlab.optimizers.Yogi` before you load a model that was compiled with it:
    this registers the class with Keras. `fedlab.models.load` does so itself.

    Example: the first step has the size of the learning rate, whatever the gradient.
      >>> import tensorflow as tf
      >>> w = tf.Variable([2.0])
      >>> optimizer = Yogi(0.1, epsilon=0.0, initial_accumulator_value=0.0)
      >>> _ = optimizer.apply_gradients([(tf.constant([7.0]), w)])
      >>> round(float(w[0]), 4)
      1.9
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-3,
        initial_accumulator_value: float = 1e-6,
        *,
        name: str = "Yogi",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.beta_1, self.beta_2 = beta_1, beta_2
        self.epsilon, self.initial_accumulator_value = epsilon, initial_accumulator_value

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the moments of each variable."""
        if self.built:
            return
        super().build(variables)
        start = keras.initializers.Constant(self.initial_accumulator_value)
        self._momentums = self.add_optimizer_variables(variables, "m")
        self._velocities = self.add_optimizer_variables(variables, "v", initializer=start)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        i = self._get_variable_index(variable)
        m, v, dtype = self._momentums[i], self._velocities[i], variable.dtype
        gradient = ops.cast(ops.convert_to_tensor(gradient), dtype)
        square = ops.square(gradient)
        beta_1, beta_2 = ops.cast(self.beta_1, dtype), ops.cast(self.beta_2, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        self.assign_add(m, (gradient - m) * (1 - beta_1))
        self.assign_add(v, (1 - beta_2) * ops.sign(square - v) * square)
        factor = ops.sqrt(1 - ops.power(beta_2, step)) / (1 - ops.power(beta_1, step))
        rate = ops.cast(learning_rate, dtype) * factor
        self.assign_sub(variable, rate * m / (ops.sqrt(v) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("beta_1", "beta_2", "epsilon", "initial_accumulator_value")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
