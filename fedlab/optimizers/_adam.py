"""What Adam and its like have in common, for the optimizers of clients and of the server."""

import tensorflow as tf


def adam_factor(step, beta_1, beta_2):
    """Adam's factor of the learning rate, float64 scalar: in float32, 1 - 0.999 is off by 1e-5."""
    t = tf.cast(step, tf.float64)
    beta_1, beta_2 = tf.constant(beta_1, tf.float64), tf.constant(beta_2, tf.float64)
    return tf.sqrt(1 - beta_2**t) / (1 - beta_1**t)
