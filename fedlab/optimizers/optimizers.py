"""Optimizers as pure functions over tensors, for clients and for the server. Their formulas are Keras's."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.learner.keras2.copying import (
    exclude_from_weight_decay,
    is_keras,
    optimizer_config,
    weight_decay_exclusions,
)
from fedlab.optimizers._adam import adam_factor
from fedlab.optimizers.schedules import Schedule


class Optimizer(NamedTuple):
    """An optimizer without hidden state.

    Attributes:
      name: as its function is named.
      settings: the arguments it was made with.
      init: weights -> state. `weights` is a list of float tensors, `state` a nest of tensors.
      apply: (weights, state, gradients, round_num=None) -> (weights, state), everything of the same shapes and dtypes. Only a learning
        rate that is a schedule needs the round.
      part: positions -> the `Optimizer` for the weights at these positions of the list, or None where
        all weights are treated alike; see the function `part`.
    """

    name: str
    settings: dict
    init: Callable
    apply: Callable
    part: Callable | None = None


def check(optimizer):
    """Returns an `Optimizer`, or raises TypeError where it is none."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"the optimizer is {_checks.kind(optimizer)}; allowed: one of fedlab.optimizers.optimizers, such as sgd(1.0)."
        )
    return optimizer


def in_round(optimizer, round_num):
    """The optimizer as it is in one round, whatever its learning rate's schedule."""

    def some(positions):
        return in_round(part(optimizer, positions), round_num)

    apply = functools.partial(optimizer.apply, round_num=round_num)
    return optimizer._replace(apply=apply, part=some)


def part(optimizer, positions):
    """The optimizer for some of the model's weights.

    The model may treat its weights differently: some have a constraint or are excluded from weight
    decay. An algorithm that passes only some of the weights to an optimizer says which.

    Args:
      optimizer: an `Optimizer` for all weights.
      positions: a list of ints, the positions of the weights in the list of all.

    Returns:
      An `Optimizer` whose `init` and `apply` take the weights at these positions.
    """
    return optimizer.part(tuple(positions)) if optimizer.part else optimizer


def sgd(learning_rate, momentum=0.0, nesterov=False):
    """Gradient descent, with momentum (Polyak 1964) and with Nesterov's look-ahead, as Keras and TFF define it.

        m = momentum * m + g
        w = w - learning_rate * (g + momentum * m if nesterov else m)

    Args:
      learning_rate: a number of 0 or more, or a schedule over rounds (`fedlab.optimizers.schedules`).
      momentum: 0 or more, below 1.
      nesterov: whether the step looks ahead.

    Example:
      >>> optimizer = sgd(0.5, momentum=0.9)
      >>> weights, state = [tf.constant([2.0])], optimizer.init([tf.constant([2.0])])
      >>> weights, state = optimizer.apply(weights, state, [tf.constant([1.0])])
      >>> weights, state = optimizer.apply(weights, state, [tf.constant([1.0])])
      >>> [round(float(w), 2) for w in weights[0]]  # 2 - .5 * 1 - .5 * 1.9
      [0.55]
    """
    settings = dict(locals())
    check_rate(learning_rate)
    _check_decay(momentum=momentum)

    def init(weights):
        return _zeros(weights) if momentum else []

    def apply(weights, state, gradients, round_num=None):
        rate = _rate(learning_rate, round_num)
        step = gradients
        if momentum:
            state = step = [momentum * m + g for m, g in zip(state, gradients)]
            if nesterov:
                step = [g + momentum * m for m, g in zip(state, gradients)]
        return [w - _as(w, rate) * s for w, s in zip(weights, step)], state

    return Optimizer("sgd", settings, init, apply)


class Moments(NamedTuple):
    """State of Adam and its like: steps done, and running means of the gradients and of their squares."""

    step: Any
    first: Any
    second: Any


def adam(
    learning_rate,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-7,
    bias_correction=True,
    initial_accumulator_value=0.0,
):
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), as Keras and TFF define it.

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g ** 2
        w = w - learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t) * m / (sqrt(v) + epsilon)      in step t = 1, 2, ...

    Args:
      learning_rate: a number of 0 or more, or a schedule over rounds.
      beta_1, beta_2: 0 or more, below 1.
      epsilon: 0 or more.
      bias_correction: whether the factor of the learning rate is there; without it, it is 1.
      initial_accumulator_value: v before the first step, 0 or more.

    Example:
      >>> optimizer = adam(0.1, epsilon=0.0)
      >>> weights, state = optimizer.apply([tf.constant([2.0])], optimizer.init([tf.constant([2.0])]), [tf.constant([7.0])])
      >>> [round(float(w), 4) for w in weights[0]]  # the first step is of the learning rate, whatever the gradient
      [1.9]
    """
    settings = dict(locals())
    _check_not_negative(initial_accumulator_value=initial_accumulator_value)

    def second(v, g):
        return v + (tf.square(g) - v) * (1 - beta_2)

    options = {
        name: value for name, value in settings.items() if name != "initial_accumulator_value"
    }
    return Optimizer(
        "adam", settings, *_adaptive(second, initial_accumulator_value, 0.0, **options)
    )


def adamw(learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=0.004):
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), as Keras and TFF define it.

        w = w - learning_rate * weight_decay * w, then a step of Adam

    Args: as `adam`, and
      weight_decay: 0 or more.

    Example:
      >>> optimizer = adamw(0.1, weight_decay=0.5)
      >>> weights, state = optimizer.apply([tf.constant([2.0])], optimizer.init([tf.constant([2.0])]), [tf.constant([0.0])])
      >>> [round(float(w), 4) for w in weights[0]]  # 2 - .1 * .5 * 2
      [1.9]
    """
    settings = dict(locals())
    _check_not_negative(weight_decay=weight_decay)

    def second(v, g):
        return v + (tf.square(g) - v) * (1 - beta_2)

    return Optimizer("adamw", settings, *_adaptive(second, 0.0, bias_correction=True, **settings))


def yogi(
    learning_rate,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-3,
    initial_accumulator_value=1e-6,
    bias_correction=True,
):
    """Yogi (Zaheer et al. 2018, https://papers.nips.cc/paper/8186), as TFF defines it; Keras has none.

        v = v - (1 - beta_2) * sign(v - g ** 2) * g ** 2                                    the rest as in Adam

    Args: as `adam`, and
      initial_accumulator_value: v before the first step, 0 or more.

    Example:
      >>> optimizer = yogi(0.1, epsilon=0.0, initial_accumulator_value=0.0)
      >>> weights, state = optimizer.apply([tf.constant([2.0])], optimizer.init([tf.constant([2.0])]), [tf.constant([7.0])])
      >>> [round(float(w), 4) for w in weights[0]]
      [1.9]
    """
    settings = dict(locals())
    _check_not_negative(initial_accumulator_value=initial_accumulator_value)

    def second(v, g):
        square = tf.square(g)
        return v + (1 - beta_2) * tf.sign(square - v) * square

    options = {
        name: value for name, value in settings.items() if name != "initial_accumulator_value"
    }
    return Optimizer(
        "yogi", settings, *_adaptive(second, initial_accumulator_value, 0.0, **options)
    )


def _adaptive(second, start, weight_decay, learning_rate, beta_1, beta_2, epsilon, bias_correction):
    """init and apply of Adam and its like, which differ in `second`: (v, g) -> v."""
    check_rate(learning_rate)
    _check_decay(beta_1=beta_1, beta_2=beta_2)
    _check_not_negative(epsilon=epsilon)

    def init(weights):
        return Moments(
            tf.zeros([], tf.int64),
            _zeros(weights),
            [tf.fill(w.shape, tf.constant(start, w.dtype)) for w in weights],
        )

    def apply(weights, state, gradients, round_num=None):
        step = state.step + 1
        m = [m + (g - m) * (1 - beta_1) for m, g in zip(state.first, gradients)]
        v = [second(v, g) for v, g in zip(state.second, gradients)]
        rate = _rate(learning_rate, round_num)

        factor = rate * adam_factor(step, beta_1, beta_2) if bias_correction else rate

        def stepped(w, m, v):
            if weight_decay:
                w = w - w * weight_decay * _as(w, rate)
            return w - _as(w, factor) * m / (tf.sqrt(v) + epsilon)

        return [stepped(*each) for each in zip(weights, m, v)], Moments(step, m, v)

    return init, apply


def adagrad(learning_rate, initial_accumulator_value=0.1, epsilon=1e-7, epsilon_in_root=True):
    """Adagrad (Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html), as Keras and TFF define it.

        v = v + g ** 2
        w = w - learning_rate * g / sqrt(v + epsilon)            or / (sqrt(v) + epsilon) where not epsilon_in_root

    Args:
      learning_rate: a number of 0 or more, or a schedule over rounds.
      initial_accumulator_value: v before the first step, 0 or more.
      epsilon: 0 or more.

    Example:
      >>> optimizer = adagrad(0.1, initial_accumulator_value=0.0)
      >>> weights, state = optimizer.apply([tf.constant([2.0])], optimizer.init([tf.constant([2.0])]), [tf.constant([7.0])])
      >>> [round(float(w), 4) for w in weights[0]]
      [1.9]
    """
    settings = dict(locals())
    check_rate(learning_rate)
    _check_not_negative(initial_accumulator_value=initial_accumulator_value, epsilon=epsilon)

    def init(weights):
        return [tf.fill(w.shape, tf.constant(initial_accumulator_value, w.dtype)) for w in weights]

    def apply(weights, state, gradients, round_num=None):
        rate = _rate(learning_rate, round_num)
        state = [v + tf.square(g) for v, g in zip(state, gradients)]
        roots = [_root(v, epsilon, epsilon_in_root) for v in state]
        return [w - _as(w, rate) * g / root for w, g, root in zip(weights, gradients, roots)], state

    return Optimizer("adagrad", settings, init, apply)


def rmsprop(learning_rate, rho=0.9, epsilon=1e-7, epsilon_in_root=True):
    """RMSprop (Tieleman and Hinton 2012, Coursera lecture 6e), as Keras defines it; TFF has epsilon outside of the root.

        v = rho * v + (1 - rho) * g ** 2
        w = w - learning_rate * g / sqrt(v + epsilon)            or / (sqrt(v) + epsilon) where not epsilon_in_root

    Args:
      learning_rate: a number of 0 or more, or a schedule over rounds.
      rho: 0 or more, below 1.
      epsilon: 0 or more.

    Example:
      >>> optimizer = rmsprop(0.1, rho=0.75)
      >>> weights, state = optimizer.apply([tf.constant([2.0])], optimizer.init([tf.constant([2.0])]), [tf.constant([7.0])])
      >>> [round(float(w), 4) for w in weights[0]]  # 2 - .1 / sqrt(.25)
      [1.8]
    """
    settings = dict(locals())
    check_rate(learning_rate)
    _check_decay(rho=rho)
    _check_not_negative(epsilon=epsilon)

    def apply(weights, state, gradients, round_num=None):
        rate = _rate(learning_rate, round_num)
        state = [rho * v + (1 - rho) * tf.square(g) for v, g in zip(state, gradients)]
        roots = [_root(v, epsilon, epsilon_in_root) for v in state]
        return [w - _as(w, rate) * g / root for w, g, root in zip(weights, gradients, roots)], state

    return Optimizer("rmsprop", settings, _zeros, apply)


def _zeros(weights):
    return [tf.zeros_like(w) for w in weights]


def _root(v, epsilon, epsilon_in_root):
    return tf.sqrt(v + epsilon) if epsilon_in_root else tf.sqrt(v) + epsilon


def _rate(learning_rate, round_num):
    """The rate in a round: the number itself, or a float64 scalar tensor."""
    if not isinstance(learning_rate, Schedule):
        return learning_rate
    if round_num is None:
        raise ValueError(
            f"the learning rate is the schedule {learning_rate.name!r}: pass round_num to apply."
        )
    return learning_rate(round_num)


def _as(weight, rate):
    return tf.cast(rate, weight.dtype) if tf.is_tensor(rate) else rate


def check_rate(learning_rate):
    """Raises ValueError where it is neither a number of 0 or more nor a schedule."""
    if not isinstance(learning_rate, Schedule) and not (
        _checks.is_number(learning_rate) and 0 <= learning_rate < math.inf
    ):
        raise ValueError(f"learning_rate is {learning_rate!r}; allowed: 0 or more.")


def _check_decay(**values):
    for name, value in values.items():
        if not _checks.is_number(value) or not 0 <= value < 1:
            raise ValueError(f"{name} is {value!r}; allowed: 0 or more, below 1.")


def _check_not_negative(**values):
    for name, value in values.items():
        if not _checks.is_number(value) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}; allowed: 0 or more.")


def constrained(optimizer, constraints):
    """The optimizer, with each weight projected after each step, as Keras does.

    Args:
      optimizer: an `Optimizer`.
      constraints: for each weight a function tensor -> tensor (`tf.keras.constraints`), or None.
    """
    if not any(constraints):
        return optimizer

    def apply(weights, state, gradients, round_num=None):
        _check_all(weights, constraints, "constraints")
        weights, state = optimizer.apply(weights, state, gradients, round_num)
        return [c(w) if c else w for w, c in zip(weights, constraints)], state

    def some(positions):
        return constrained(part(optimizer, positions), [constraints[i] for i in positions])

    return optimizer._replace(apply=apply, part=some)


def _check_all(weights, known, what):
    if len(weights) != len(known):
        raise ValueError(
            f"the optimizer received {len(weights)} weights, the model's {what} are for "
            f"{len(known)}: pass all weights, or use optimizers.part(optimizer, positions)."
        )


def of_model(model, schedule=None):
    """The optimizer that a Keras model is compiled with, for its trainable weights.

    Args:
      model: a compiled Keras model.
      schedule: a `Schedule` over rounds in place of the optimizer's own learning rate.

    Returns:
      An `Optimizer`; see `from_keras`.
    """
    variables = model.trainable_variables
    optimizer = from_keras(model.optimizer, schedule, variables)
    return constrained(optimizer, [v.constraint for v in variables])


def check_model(model, schedule=None):
    """Raises ValueError where clients cannot train with the optimizer of a model; see `of_model`."""
    optimizer = of_model(model, schedule)
    if not _is_known(type(model.optimizer)):
        optimizer.init([tf.zeros(v.shape, v.dtype) for v in model.trainable_variables])


def from_keras(optimizer, schedule=None, variables=None):
    """A Keras optimizer as a pure `Optimizer`: a fresh copy of it updates variables of its own, whose values come and go as tensors.

    Every option of every Keras optimizer is Keras's own code. Plain SGD, the usual case, takes the short way. The result belongs to one
    thread. A learning-rate schedule of Keras counts the client's own steps.

    For a model of float64: Keras keeps the learning rate in `tf.keras.backend.floatx()`, by default
    float32, so that SGD(0.1) steps by 0.10000000149, here too. Pass a `schedule`, such as
    `schedules.constant(0.1)`, for a rate in float64. Keras also rounds momentum and betas to float32
    in some places, which costs Adam's first steps 1e-5; here they are float64 everywhere.

    Nadam follows Keras run eagerly. In a compiled `fit`, Keras 2.14 counts the updates of Nadam's
    momentum product while it traces the graph, and so updates it a wrong number of times.

    Args:
      optimizer: a Keras optimizer, or what `tf.keras.optimizers.get` takes.
      schedule: a `Schedule` over rounds in place of the optimizer's own learning rate.
      variables: the model's variables that the weights are the values of, in the same order. Needed
        where the optimizer tells them apart: `exclude_from_weight_decay`.

    Raises:
      ValueError: for a legacy optimizer, for `use_ema=True`, and for an optimizer that computes the
        start of its state from the weights. State that starts as a copy of the weights is fine.
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
    own, own_variables, start = type(optimizer).from_config(dict(config)), [], []

    def build(weights):
        if own_variables:
            return
        if any(excluded):
            _check_all(weights, variables, "exclusions from weight decay")
        names = [None] * len(weights)
        if variables and len(variables) == len(weights):
            names = [v.name.removesuffix(":0") for v in variables]
        with tf.init_scope(), tf.name_scope(""):
            for weight, name in zip(weights, names):
                own_variables.append(tf.Variable(tf.zeros(weight.shape, weight.dtype), name=name))
            exclude_from_weight_decay(own, [v for v, out in zip(own_variables, excluded) if out])
            if all(w.dtype == tf.float64 for w in weights):
                _use_float64(own, schedule is not None)
            own.build(own_variables)
            start.extend(_start(type(optimizer), config, own_variables, state_variables()))

    def state_variables():
        return _state_variables(own)

    def init(weights):
        build(weights)
        return [
            tf.identity(weights[value]) if isinstance(value, int) else _constant(value)
            for value in start
        ]

    def apply(weights, state, gradients, round_num=None):
        build(weights)
        if schedule is not None:
            own.learning_rate.assign(tf.cast(_rate(schedule, round_num), own.learning_rate.dtype))
        for variable, value in zip(own_variables + state_variables(), list(weights) + list(state)):
            variable.assign(value)
        if fused_adam:
            _apply_adam(own, own_variables, gradients)
        else:
            if isinstance(own, tf.keras.optimizers.Nadam):
                _multiply_nadams_product(own)
            own.apply_gradients(zip(gradients, own_variables))
        return [v.read_value() for v in own_variables], [v.read_value() for v in state_variables()]

    @functools.cache  # `init` and `apply` of a part share their variables
    def some(positions):
        with tf.init_scope():  # to read the settings where a graph is being traced
            return from_keras(optimizer, schedule, [variables[i] for i in positions])

    return Optimizer(
        f"keras {type(optimizer).__name__}", config, init, apply, some if variables else None
    )


def _check_keras(optimizer):
    """Raises ValueError for a Keras optimizer that `from_keras` cannot express."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, tf.keras.optimizers.Optimizer):
        module = type(optimizer).__module__
        raise ValueError(
            f"the optimizer is of {module}; allowed: {name} of tf.keras.optimizers: compile anew."
        )
    if hasattr(optimizer, "inner_optimizer"):
        raise ValueError(
            f"the model's {type(optimizer.inner_optimizer).__name__} scales the loss, as float16 needs: "
            "expected an optimizer without LossScaleOptimizer; use the policy 'mixed_bfloat16' instead."
        )
    # The end of `fit` puts the averages into the model. A client of many algorithms has no such end.
    finalize = tf.keras.optimizers.Optimizer.finalize_variable_values
    if optimizer.use_ema or type(optimizer).finalize_variable_values is not finalize:
        what = "use_ema=True" if optimizer.use_ema else "a finalize_variable_values"
        raise ValueError(
            f"the model's {name} has {what}, which changes the weights after the last step: compile the model without it."
        )


def _is_known(cls):
    """Whether an optimizer's code is Keras's or ours: its state then starts from constants."""
    return is_keras(cls) or cls.__module__.split(".")[0] == "fedlab"


def _start(cls, config, variables, state):
    """How each state variable of a Keras optimizer starts: an array, or whose copy it is.

    Args:
      cls, config: class and configuration of the optimizer.
      variables: those that `state` was built for, all zero.
      state: its variables.

    Returns:
      For each state variable an array, or the position of the variable that it is a copy of.
    """
    if _is_known(cls):
        return [s.numpy() for s in state]
    # Built for other weights, state that depends on them has other values.
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
                    f"{cls.__name__} starts its state {one.name!r} neither from a constant nor as a "
                    "copy of a weight: expected an optimizer whose state starts as one of these."
                )
            start = copied[0]
        starts.append(start)
    return starts


def _state_variables(optimizer):
    """The variables of a built Keras optimizer that change with its steps, but for the weights."""
    # Nadam and others of its kind keep some beside `variables`. A learning rate is a setting.
    own = [v for v in vars(optimizer).values() if isinstance(v, tf.Variable)]
    rates = [
        getattr(optimizer, name, None) for name in ("_learning_rate", "_current_learning_rate")
    ]
    found = {id(v): v for v in [*optimizer.variables, *own]}
    return [v for v in found.values() if not any(v is rate for rate in rates)]


class _Counted:
    """In place of Nadam's count of its products: this step's is there already."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        return tf.constant(True)

    def __add__(self, other):
        return self


def _multiply_nadams_product(nadam):
    """Does what Nadam does with the first weight of a step.

    Keras counts the products in a Python integer, which in a graph is right for one weight only.
    """
    product = nadam._u_product
    step, decay = tf.cast(nadam.iterations + 1, product.dtype), tf.cast(0.96, product.dtype)
    product.assign(product * tf.cast(nadam.beta_1, product.dtype) * (1.0 - 0.5 * decay**step))
    nadam._u_product_counter = _Counted()


def _use_float64(optimizer, scheduled):
    """Has a Keras optimizer compute in float64: `tf.cast` makes a Python float a float32 tensor first."""
    for name in optimizer.get_config():
        if type(getattr(optimizer, name, None)) is float:
            setattr(optimizer, name, np.float64(getattr(optimizer, name)))
    if scheduled:
        optimizer._learning_rate = tf.Variable(1.0, dtype=tf.float64, trainable=False)


def _apply_adam(own, variables, gradients):
    """Keras's Adam in one pass over the weights: TensorFlow's kernel has the same formula, and Keras writes it as a dozen operations."""
    own.iterations.assign_add(1)
    for variable, m, v, gradient in zip(variables, own._momentums, own._velocities, gradients):
        step = tf.cast(own.iterations, variable.dtype)
        beta_1, beta_2, epsilon = (
            tf.constant(value, variable.dtype) for value in (own.beta_1, own.beta_2, own.epsilon)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(own.learning_rate, variable.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


def _constant(value):
    """A constant that takes no memory in the graph where all its values are equal, as slots are at first."""
    if value.ndim and value.size and (value == value.flat[0]).all():
        return tf.fill(value.shape, value.flat[0])
    return tf.constant(value)
