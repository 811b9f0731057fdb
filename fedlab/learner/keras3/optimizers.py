"""The Keras optimizer of a compiled model as a pure `fedlab.optimizers.Optimizer`."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fedlab.learner import unused
from fedlab.learner.copying import is_keras, optimizer_config
from fedlab.learner.keras3.weight_decay import exclude_from_weight_decay
from fedlab.learner.variables import assign, leaves, values, variables_of
from fedlab.learner.weight_decay import weight_decay_exclusions
from fedlab.optimizers.optimizer import Optimizer, check_all, constrained, rate_in_round
from fedlab.optimizers.schedules import Schedule
from fedlab.optimizers.sgd import sgd


def of_model(model: keras.Model, schedule: Schedule | None = None) -> Optimizer:
    """The optimizer that a Keras model is compiled with, for its trainable weights.

    Args:
      model: a compiled Keras model.
      schedule: replaces the optimizer's own learning rate by one that depends on the
        round.

    Returns:
      An `Optimizer`; see `from_keras`. It does not change weights that the loss does
        not depend on.

    Raises:
      ValueError: see `from_keras`; also for a model that is quantized to float8.
    """
    variables = model.trainable_variables
    if overwritten := [v.path for v in variables if v.overwrite_with_gradient]:
        raise ValueError(
            f"model {model.name!r} is quantized to float8, so Keras overwrites its weight "
            f"{overwritten[0]!r} in each step: expected another precision, such as mixed_bfloat16"
        )
    optimizer = from_keras(model.optimizer, schedule, variables)
    return unused.unchanged(model, constrained(optimizer, [v.constraint for v in variables]))


def check_model(model: keras.Model, schedule: Schedule | None = None) -> None:
    """Raises ValueError if clients cannot train with the model's optimizer; see `of_model`."""
    optimizer = of_model(model, schedule)
    if not _starts_from_constants(type(model.optimizer)):
        optimizer.init([tf.zeros(v.shape, v.dtype) for v in model.trainable_variables])


def from_keras(
    optimizer: Any,
    schedule: Schedule | None = None,
    variables: Sequence[keras.Variable] | None = None,
) -> Optimizer:
    """A Keras optimizer as a pure `Optimizer`.

    Weights and state are assigned to variables of a fresh copy of the Keras optimizer,
    which updates them: every option of every optimizer is Keras's own code. SGD without
    further options is `fedlab.optimizers.sgd`, which is faster. The result must be used
    by one thread only. A learning-rate schedule of Keras counts the steps of one
    client, and so does `gradient_accumulation_steps`: gradients that are left at the
    end of a client are dropped, as at the end of `fit`.

    The gradient of an embedding is dense here: rows of the same id are added up first.
    On TensorFlow, Keras 3 clips and squares such rows one by one, which changes the
    steps of optimizers other than SGD if an id occurs twice in a batch. Keras 2, and
    Keras 3 on other backends, do as fedlab does.

    For a float64 model, note that Keras stores the learning rate in
    `keras.config.floatx()`, by default float32, so that SGD(0.1) has a rate of
    0.10000000149, here too. Pass a `schedule` such as `schedules.constant(0.1)` for a
    float64 rate. Keras also rounds momentum and betas to float32 in some places, which
    causes an error of 1e-5 in Adam's first steps. Here they are float64.

    Args:
      optimizer: a Keras optimizer, or an argument of `keras.optimizers.get`.
      schedule: replaces the optimizer's own learning rate by one that depends on the
        round.
      variables: the model's variables, in the order of the weights. Required if the
        optimizer treats them differently (`exclude_from_weight_decay`).

    Raises:
      ValueError: for `use_ema=True`, loss scaling, several optimizers in one, a
        learning rate that is a function, and an optimizer whose initial state is
        computed from the weights. An initial state that is a copy of them is allowed.
    """
    optimizer = keras.optimizers.get(optimizer)
    _check_keras(optimizer)
    config = optimizer_config(optimizer)
    options = ("weight_decay", "clipnorm", "global_clipnorm", "clipvalue")
    plain = not any(config.get(name) for name in (*options, "gradient_accumulation_steps"))
    if schedule is not None:
        config["learning_rate"] = 1.0
    constant_rate = isinstance(config["learning_rate"], float)
    if type(optimizer) is keras.optimizers.SGD and plain and constant_rate:
        return sgd(
            schedule or float(config["learning_rate"]), config["momentum"], config["nesterov"]
        )

    fused_adam = (
        type(optimizer) is keras.optimizers.Adam
        and plain
        and constant_rate
        and not config["amsgrad"]
    )
    excluded = weight_decay_exclusions(optimizer, variables)
    copy, copies, start = type(optimizer).from_config(dict(config)), [], []

    def build(weights):
        if copies:
            return
        if any(excluded):
            check_all(weights, variables, "exclusions from weight decay")
        names = ["weight"] * len(weights)
        if variables and len(variables) == len(weights):
            names = [v.name for v in variables]
        with tf.init_scope(), tf.name_scope(""):
            for weight, name in zip(weights, names):
                copies.append(_variable(tf.zeros(weight.shape, weight.dtype), name))
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
            variable = copy._learning_rate.value
            variable.assign(tf.cast(rate, variable.dtype))
        own, states = variables_of(copies), _state_variables(copy)
        assign(own + states, list(weights) + list(state))
        if fused_adam:
            _apply_adam(copy, own, gradients)
        else:
            copy.apply(gradients, copies)
        return values(own), values(states)

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
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        module = type(optimizer).__module__
        raise ValueError(
            f"optimizer: expected {name} of keras.optimizers, got {name} of {module}: "
            "compile the model with the former"
        )
    if hasattr(optimizer, "inner_optimizer"):
        raise ValueError(
            f"optimizer: expected one without loss scaling, got {name} of "
            f"{type(optimizer.inner_optimizer).__name__}: use the policy 'mixed_bfloat16' instead "
            "of 'mixed_float16'"
        )
    if optimizer.loss_scale_factor is not None:
        raise ValueError(
            f"optimizer: expected one without loss scaling, got {name} with loss_scale_factor="
            f"{optimizer.loss_scale_factor}: leave it out"
        )
    if inside := [each for each in _parts(optimizer) if each is not optimizer]:
        raise ValueError(
            f"optimizer: expected a single one, got {name} of {type(inside[0]).__name__}: compile "
            "the model with one optimizer for all weights"
        )
    rate = getattr(optimizer, "_learning_rate", None)
    if not isinstance(rate, (keras.Variable, keras.optimizers.schedules.LearningRateSchedule)):
        raise ValueError(
            f"optimizer: expected a learning rate that is a number or a schedule, got {name} with "
            f"learning_rate={rate!r:.60}: use one of keras.optimizers.schedules"
        )
    # Keras puts the averages into the model when `fit` ends. Client training has no
    # such end.
    finalize = keras.optimizers.Optimizer.finalize_variable_values
    if optimizer.use_ema or type(optimizer).finalize_variable_values is not finalize:
        what = "use_ema=True" if optimizer.use_ema else "a finalize_variable_values"
        raise ValueError(
            f"optimizer: expected one that leaves the weights unchanged after the last step, got "
            f"{name} with {what}"
        )


def _parts(optimizer):
    """The Keras optimizers among the attributes of an optimizer, also in lists and dicts."""
    for value in vars(optimizer).values():
        for each in leaves(value):
            if isinstance(each, keras.optimizers.Optimizer):
                yield each


def _starts_from_constants(cls):
    """Whether the initial state of an optimizer class is known to consist of constants."""
    known = is_keras(cls) or cls.__module__.split(".")[0] == "fedlab"
    return known and cls.__name__ != "ScheduleFreeAdamW"


def _start(cls, config, variables, state):
    """The initial value of each state variable of a Keras optimizer.

    Args:
      cls, config: class and configuration of the optimizer.
      variables: the Keras variables that the optimizer was built for, all zero.
      state: the optimizer's state variables.

    Returns:
      For each state variable an array, or the position of the variable that it is a
      copy of.
    """
    if _starts_from_constants(cls):
        return [s.numpy() for s in state]
    # If state depends on the weights, it has other values after a build with other
    # weights.
    rng = np.random.default_rng(0)
    weights = [tf.cast(rng.normal(size=v.shape), v.dtype) for v in variables]
    others = [_variable(w, v.name) for w, v in zip(weights, variables)]
    second = cls.from_config(dict(config))
    second.build(others)
    other_state = _state_variables(second)
    starts = []
    for one, other in zip(state, other_state, strict=True):
        start = one.numpy()
        if not np.array_equal(start, other.numpy()):
            copied = [i for i, w in enumerate(weights) if np.array_equal(w, other)]
            if start.any() or not copied:
                raise ValueError(
                    f"optimizer: expected an initial state of constants or copies of weights, got "
                    f"{cls.__name__}, whose {one.name!r} is neither"
                )
            start = copied[0]
        starts.append(start)
    return starts


def _variable(value, name):
    return keras.Variable(value, dtype=value.dtype.name, name=name)


def _state_variables(optimizer):
    """The variables of a built Keras optimizer that its steps change, without the weights."""
    # A learning rate is a setting.
    return variables_of(v for v in optimizer.variables if v.name != "learning_rate")


def _use_float64(optimizer, scheduled):
    """Makes a Keras optimizer compute in float64.

    `tf.cast` converts a Python float to float32 first.
    """
    for name in optimizer.get_config():
        if type(getattr(optimizer, name, None)) is float and name != "learning_rate":
            setattr(optimizer, name, np.float64(getattr(optimizer, name)))
    if scheduled:
        optimizer._learning_rate = keras.Variable(
            1.0, dtype="float64", trainable=False, name="learning_rate"
        )


def _apply_adam(copy, variables, gradients):
    """Updates variables by TensorFlow's Adam kernel, which is Keras's dozen operations in one."""
    copy.iterations.value.assign_add(1)
    moments = variables_of(copy._momentums), variables_of(copy._velocities)
    for variable, m, v, gradient in zip(variables, *moments, gradients):
        step = tf.cast(copy.iterations.value, variable.dtype)
        beta_1, beta_2, epsilon = (
            tf.constant(value, variable.dtype) for value in (copy.beta_1, copy.beta_2, copy.epsilon)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(copy._learning_rate.value, variable.dtype),
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
