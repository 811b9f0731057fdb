"""Optimizers as pure functions over tensors, for clients and for the server."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Optimizer(NamedTuple):
    """An optimizer without hidden state.

    Attributes:
      init: weights -> state. `weights` is a list of float tensors, `state` a nest of tensors.
      apply: (weights, state, gradients) -> (weights, state), everything of the same shapes and dtypes.
    """

    init: Callable
    apply: Callable


def sgd(learning_rate, momentum=0.0, nesterov=False):
    """Gradient descent with momentum, as Keras and TFF define it.

        m = momentum * m + g
        w = w - learning_rate * (g + momentum * m if nesterov else m)

    Args:
      learning_rate: a number of 0 or more.
      momentum: 0 or more, below 1.
      nesterov: whether the step looks ahead.

    Example:
      >>> optimizer = sgd(0.5, momentum=0.9)
      >>> weights, state = [tf.constant([2.0])], optimizer.init([tf.constant([2.0])])
      >>> weights, state = optimizer.apply(weights, state, [tf.constant([1.0])])
      >>> weights, state = optimizer.apply(weights, state, [tf.constant([1.0])])
      >>> weights[0].numpy().round(2).tolist()  # 2 - .5 * 1 - .5 * 1.9
      [0.55]
    """
    if not learning_rate >= 0:
        raise ValueError(f"learning_rate is {learning_rate!r}; allowed: 0 or more.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum!r}; allowed: 0 or more, below 1.")

    def init(weights):
        return [tf.zeros_like(w) for w in weights] if momentum else []

    def apply(weights, state, gradients):
        step = gradients
        if momentum:
            state = step = [momentum * m + g for m, g in zip(state, gradients)]
            if nesterov:
                step = [g + momentum * m for m, g in zip(state, gradients)]
        return [w - learning_rate * s for w, s in zip(weights, step)], state

    return Optimizer(init, apply)


def from_keras(optimizer):
    """A Keras optimizer as a pure `Optimizer`: a fresh copy of it updates variables of its own, whose values come and go as tensors.

    Every option of every Keras optimizer is Keras's own code. Plain SGD, the usual case, takes the short way. The result belongs to one
    thread. A learning-rate schedule counts the client's own steps.
    """
    optimizer = tf.keras.optimizers.get(optimizer)
    if not isinstance(optimizer, tf.keras.optimizers.Optimizer):
        raise ValueError(
            f"the optimizer is of {type(optimizer).__module__}; allowed: {type(optimizer).__name__} of tf.keras.optimizers: compile anew."
        )
    config = optimizer.get_config()
    plain = not any(config.get(name) for name in ("weight_decay", "clipnorm", "global_clipnorm", "clipvalue", "use_ema"))
    constant_rate = not isinstance(config["learning_rate"], dict)
    if type(optimizer) is tf.keras.optimizers.SGD and plain and constant_rate:
        return sgd(float(config["learning_rate"]), config["momentum"], config["nesterov"])

    fused_adam = type(optimizer) is tf.keras.optimizers.Adam and plain and constant_rate and not config["amsgrad"]
    config["jit_compile"] = False
    own = type(optimizer).from_config(config)
    variables, start = [], []

    def build(weights):
        if not variables:
            with tf.init_scope():
                variables.extend(tf.Variable(tf.zeros(w.shape, w.dtype)) for w in weights)
                own.build(variables)
                start.extend(v.numpy() for v in state_variables())

    def state_variables():
        # The learning rate is a setting, not state.
        return [v for v in own.variables if v is not getattr(own, "_learning_rate", None)]

    def init(weights):
        build(weights)
        return [_constant(value) for value in start]

    def apply(weights, state, gradients):
        build(weights)
        for variable, value in zip(variables + state_variables(), list(weights) + list(state)):
            variable.assign(value)
        if fused_adam:
            _apply_adam(own, variables, gradients)
        else:
            own.apply_gradients(zip(gradients, variables))
        return [v.read_value() for v in variables], [v.read_value() for v in state_variables()]

    return Optimizer(init, apply)


def _apply_adam(own, variables, gradients):
    """Keras's Adam in one pass over the weights: TensorFlow's kernel has the same formula, and Keras writes it as a dozen operations."""
    own.iterations.assign_add(1)
    step = tf.cast(own.iterations, tf.float32)
    for variable, m, v, gradient in zip(variables, own._momentums, own._velocities, gradients):
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=own.beta_1**step,
            beta2_power=own.beta_2**step,
            lr=own.learning_rate,
            beta1=own.beta_1,
            beta2=own.beta_2,
            epsilon=own.epsilon,
            grad=gradient,
        )


def _constant(value):
    """A constant that takes no memory in the graph where all its values are equal, as slots are at first."""
    if value.ndim and value.size and (value == value.flat[0]).all():
        return tf.fill(value.shape, value.flat[0])
    return tf.constant(value)
