"""Yogi for clients: the one optimizer of `fedlab.optimizers.optimizers` that Keras lacks, in the form that `compile()` takes."""

import tensorflow as tf

from fedlab.optimizers._adam import adam_factor


@tf.keras.utils.register_keras_serializable(package="fedlab")
class Yogi(tf.keras.optimizers.Optimizer):
    """Yogi (Zaheer et al. 2018, https://papers.nips.cc/paper/8186): Adam whose second moment v changes by g ** 2 at most.

        m = beta_1 * m + (1 - beta_1) * g
        v = v - (1 - beta_2) * sign(v - g ** 2) * g ** 2
        w = w - learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t) * m / (sqrt(v) + epsilon)      in step t = 1, 2, ...

    Args:
      learning_rate: a number of 0 or more, or one of `tf.keras.optimizers.schedules`.
      beta_1, beta_2: 0 or more, below 1.
      epsilon: 0 or more.
      initial_accumulator_value: v before the first step, 0 or more.
      **options: those of every Keras optimizer, such as `clipnorm`.

    A program that reads a saved model of it has to import fedlab first, as Keras asks of every optimizer that is not its own.

    Example:
      >>> w = tf.Variable([2.0])
      >>> _ = Yogi(0.1, epsilon=0.0, initial_accumulator_value=0.0).apply_gradients([(tf.constant([7.0]), w)])
      >>> [round(float(value), 4) for value in w]  # the first step is of the learning rate, whatever the gradient
      [1.9]
    """

    def __init__(
        self,
        learning_rate=0.01,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-3,
        initial_accumulator_value=1e-6,
        *,
        name="Yogi",
        **options,
    ):
        super().__init__(name=name, **options)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.beta_1, self.beta_2, self.epsilon, self.initial_accumulator_value = (
            beta_1,
            beta_2,
            epsilon,
            initial_accumulator_value,
        )

    def build(self, var_list):
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

    def update_step(self, gradient, variable):
        i = self._index_dict[self._var_key(variable)]
        m, v, g = self._momentums[i], self._velocities[i], tf.convert_to_tensor(gradient)
        square = tf.square(g)
        m.assign_add((g - m) * (1 - self.beta_1))
        v.assign_add((1 - self.beta_2) * tf.sign(square - v) * square)
        factor = adam_factor(self.iterations + 1, self.beta_1, self.beta_2)
        rate = tf.cast(self.learning_rate, variable.dtype) * tf.cast(factor, variable.dtype)
        variable.assign_sub(rate * m / (tf.sqrt(v) + self.epsilon))

    def get_config(self):
        settings = {
            name: getattr(self, name)
            for name in ("beta_1", "beta_2", "epsilon", "initial_accumulator_value")
        }
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            **settings,
        }
