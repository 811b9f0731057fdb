"""The Keras optimizer of a compiled model as a pure `fedlab.optimizers.Optimizer`."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab.learner import unused
from fedlab.learner.copying import is_keras, optimizer_config
from fedlab.learner.keras2.weight_decay import exclude_from_weight_decay
from fedlab.learner.weight_decay import weight_decay_exclusions
from fedlab.optimizers.optimizer import Optimizer, check_all, constrained, rate_in_round
from fedlab.optimizers.schedules import Schedule
from fedlab.optimizers.sgd import sgd


def of_model(model: tf.keras.Model, schedule: Schedule | None = None) -> Optimizer:
    """The optimizer that a Keras model is compiled with, for its trainable weights.

    Args:
      model: a compiled Keras model.
      schedule: replaces the optimizer's own learning rate by one that depends on the
        round.

    Returns:
      An `Optimizer`; see `from_keras`. It does not change weights that the loss does
        not depend on.
    """
    variables = model.trainable_variables
    optimizer = from_keras(model.optimizer, schedule, variables)
    return unused.unchanged(model, constrained(optimizer, [v.constraint for v in variables]))


def check_model(model: tf.keras.Model, schedule: Schedule | None = None) -> None:
    """Raises ValueError if clients cannot train with the model's optimizer; see `of_model`."""
    optimizer = of_model(model, schedule)
    if not _is_known(type(model.optimizer)):
        optimizer.init([tf.zeros(v.shape, v.dtype) for v in model.trainable_variables])


def from_keras(
    optimizer: Any, schedule: Schedule | None = None, variables: Sequence[tf.Variable] | None = None
) -> Optimizer:
    """A Keras optimizer as a pure `Optimizer`.

    Weights and state are assigned to variables of a fresh copy of the Keras optimizer,
    which updates them: every option of every optimizer is Keras's own code. SGD without
    further options is `fedlab.optimizers.sgd`, which is faster. The result must be used
    by one thread only. A learning-rate schedule of Keras counts the steps of one
    client.

    For a float64 model, note that Keras stores the learning rate in
    `tf.keras.backend.floatx()`, by default float32, so that SGD(0.1) has a rate of
    0.10000000149, here too. Pass a `schedule` such as `schedules.constant(0.1)` for a
    float64 rate. Keras also rounds momentum and betas to float32 in some places, which
    causes an error of 1e-5 in Adam's first steps. Here they are float64.

    Nadam behaves as in eager Keras. In a compiled `fit`, Keras 2.14 counts the updates
    of Nadam's momentum product while it traces the graph, so the number of updates is
    wrong.

    Args:
      optimizer: a Keras optimizer, or an argument of `tf.keras.optimizers.get`.
      schedule: replaces the optimizer's own learning rate by one that depends on the
        round.
      variables: the model's variables, in the order of the weights. Required if the
        optimizer treats them differently (`exclude_from_weight_decay`).

    Raises:
      ValueError: for a legacy optimizer, for `use_ema=True`, and for an optimizer whose
        initial state is computed from the weights. An initial state that is a copy of
        them is allowed.
    """
    optimizer = tf.keras.optimizers.get(optimizer)
    _check_keras(optimizer)
    config = optimizer_config(optimizer)
    plain = not any(
        config.get(name) for name in ("weight_decay", "clipnorm", "global_clipnorm", "clipvalue")
    )
    if schedule is not None:
        config["learning_rate"] = 1.0
    constant_rate = not isinstance(
        config["learning_rate"], tf.keras.optimizers.schedules.LearningRateSchedule
    )
    if type(optimizer) is tf.keras.optimizers.SGD and plain and constant_rate:
        return sgd(
            schedule or float(config["learning_rate"]), config["momentum"], config["nesterov"]
        )

    fused_adam = (
        type(optimizer) is tf.keras.optimizers.Adam
        and plain
        and constant_rate
        and not config["amsgrad"]
    )
    config["jit_compile"] = False
    excluded = weight_decay_exclusions(optimizer, variables)
    copy, copies, start = type(optimizer).from_config(dict(config)), [], []

    def build(weights):
        if copies:
            return
        if any(excluded):
            check_all(weights, variables, "exclusions from weight decay")
        names = [None] * len(weights)
        if variables and len(variables) == len(weights):
            names = [v.name.removesuffix(":0") for v in variables]
        with tf.init_scope(), tf.name_scope(""):
            for weight, name in zip(weights, names):
                copies.append(tf.Variable(tf.zeros(weight.shape, weight.dtype), name=name))
            exclude_from_weight_decay(copy, [v for v, out in zip(copies, excluded) if out])
            if all(w.dtype == tf.float64 for w in weights):
                _use_float64(copy, schedule is not None)
            copy.build(copies)
            start.extend(_start(type(optimizer), config, copies, _state_variables(copy)))

    def init(weights):
        build(weights)
        return [
            tf.identity(weights[value]) if isinstance(value, int) else _constant(value)
            for value in start
        ]

    def apply(weights, state, gradients, round_num=None):
        build(weights)
        if schedule is not None:
            rate = rate_in_round(schedule, round_num)
            copy.learning_rate.assign(tf.cast(rate, copy.learning_rate.dtype))
        for variable, value in zip(copies + _state_variables(copy), list(weights) + list(state)):
            variable.assign(value)
        if fused_adam:
            _apply_adam(copy, copies, gradients)
        else:
            if isinstance(copy, tf.keras.optimizers.Nadam):
                _update_nadam_product(copy)
            copy.apply_gradients(zip(gradients, copies))
        return [v.read_value() for v in copies], [v.read_value() for v in _state_variables(copy)]

    @functools.cache  # `init` and `apply` of a part share variables
    def select(positions):
        with tf.init_scope():  # reads settings while a graph is traced
            return from_keras(optimizer, schedule, [variables[i] for i in positions])

    return Optimizer(
        f"keras {type(optimizer).__name__}", config, init, apply, select if variables else None
    )


def _check_keras(optimizer: Any) -> None:
    """Raises ValueError for a Keras optimizer that `from_keras` cannot express."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, tf.keras.optimizers.Optimizer):
        module = type(optimizer).__module__
        raise ValueError(
            f"optimizer: expected {name} of tf.keras.optimizers, got {name} of {module}: "
            "compile the model with the former"
        )
    if hasattr(optimizer, "inner_optimizer"):
        raise ValueError(
            f"optimizer: expected one without loss scaling, got {name} of "
            f"{type(optimizer.inner_optimizer).__name__}: use the policy 'mixed_bfloat16' instead "
            "of 'mixed_float16'"
        )
    # Keras puts the averages into the model when `fit` ends. Client training has no
    # such end.
    finalize = tf.keras.optimizers.Optimizer.finalize_variable_values
    if optimizer.use_ema or type(optimizer).finalize_variable_values is not finalize:
        what = "use_ema=True" if optimizer.use_ema else "a finalize_variable_values"
        raise ValueError(
            f"optimizer: expected one that leaves the weights unchanged after the last step, got "
            f"{name} with {what}"
        )


def _is_known(cls):
    """Whether an optimizer class is part of Keras or fedlab, whose initial states are constants."""
    return is_keras(cls) or cls.__module__.split(".")[0] == "fedlab"


def _start(cls, config, variables, state):
    """The initial value of each state variable of a Keras optimizer.

    Args:
      cls, config: class and configuration of the optimizer.
      variables: the variables that the optimizer was built for, all zero.
      state: the optimizer's state variables.

    Returns:
      For each state variable an array, or the position of the variable that it is a
      copy of.
    """
    if _is_known(cls):
        return [s.numpy() for s in state]
    # If state depends on the weights, it has other values after a build with other
    # weights.
    rng = np.random.default_rng(0)
    values = [tf.cast(rng.normal(size=v.shape), v.dtype) for v in variables]
    others = [tf.Variable(w, name=v.name.removesuffix(":0")) for w, v in zip(values, variables)]
    second = cls.from_config(dict(config))
    second.build(others)
    other_state = _state_variables(second)
    starts = []
    for one, other in zip(state, other_state, strict=True):
        start = one.numpy()
        if not np.array_equal(start, other.numpy()):
            copied = [i for i, w in enumerate(values) if np.array_equal(w, other)]
            if start.any() or not copied:
                raise ValueError(
                    f"optimizer: expected an initial state of constants or copies of weights, got "
                    f"{cls.__name__}, whose {one.name!r} is neither"
                )
            start = copied[0]
        starts.append(start)
    return starts


def _state_variables(optimizer):
    """The variables of a built Keras optimizer that its steps change, without the weights."""
    # Nadam has some that are not in `variables`. A learning rate is a setting.
    attributes = [v for v in vars(optimizer).values() if isinstance(v, tf.Variable)]
    rates = [
        getattr(optimizer, name, None) for name in ("_learning_rate", "_current_learning_rate")
    ]
    variables = {id(v): v for v in [*optimizer.variables, *attributes]}
    return [v for v in variables.values() if not any(v is rate for rate in rates)]


class _Counted:
    """Replaces Nadam's count of products. It makes Nadam skip its own update of the product."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        return tf.constant(True)

    def __add__(self, other):
        return self


def _update_nadam_product(nadam):
    """Updates Nadam's momentum product, as Keras does at the first weight of a step.

    Keras counts the updates in a Python integer, which is wrong in a graph with several
    weights.
    """
    product = nadam._u_product
    step, decay = tf.cast(nadam.iterations + 1, product.dtype), tf.cast(0.96, product.dtype)
    product.assign(product * tf.cast(nadam.beta_1, product.dtype) * (1.0 - 0.5 * decay**step))
    nadam._u_product_counter = _Counted()


def _use_float64(optimizer, scheduled):
    """Makes a Keras optimizer compute in float64.

    `tf.cast` converts a Python float to float32 first.
    """
    for name in optimizer.get_config():
        if type(getattr(optimizer, name, None)) is float:
            setattr(optimizer, name, np.float64(getattr(optimizer, name)))
    if scheduled:
        optimizer._learning_rate = tf.Variable(1.0, dtype=tf.float64, trainable=False)


def _apply_adam(copy, variables, gradients):
    """Updates variables by TensorFlow's Adam kernel, which is Keras's dozen operations in one."""
    copy.iterations.assign_add(1)
    for variable, m, v, gradient in zip(variables, copy._momentums, copy._velocities, gradients):
        step = tf.cast(copy.iterations, variable.dtype)
        beta_1, beta_2, epsilon = (
            tf.constant(value, variable.dtype) for value in (copy.beta_1, copy.beta_2, copy.epsilon)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(copy.learning_rate, variable.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


def _constant(value):
    """A constant that takes no memory in the graph if all its values are equal."""
    if value.ndim and value.size and (value == value.flat[0]).all():
        return tf.fill(value.shape, value.flat[0])
    return tf.constant(value)
