"""Adam and AdamW, and what they share with Yogi."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab import _checks, ops
from fedlab.ops import Tensor, Weights
from fedlab.optimizers.optimizer import (
    Optimizer,
    Rate,
    cast_like,
    check_rate,
    rate_in_round,
    zeros_like,
)


class Moments(NamedTuple):
    """Number of steps, and running means of the gradients and of their squares."""

    step: Tensor
    first: Weights
    second: Weights


def adam(
    learning_rate: Rate,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    bias_correction: bool = True,
    initial_accumulator_value: float = 0.0,
) -> Optimizer:
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), as in Keras and TFF.

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g ** 2
        rate = learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)      in step t = 1, 2, ...
        w = w - rate * m / (sqrt(v) + epsilon)

    Args:
      learning_rate: at least 0, or a schedule over rounds (`fedlab.optimizers.schedules`).
      beta_1, beta_2: at least 0 and below 1.
      epsilon: at least 0.
      bias_correction: whether `rate` has the factor above. If not, it is `learning_rate`.
      initial_accumulator_value: v before the first step, at least 0.

    Example: the first step has the size of the learning rate, whatever the gradient.
      >>> optimizer = adam(0.1, epsilon=0.0)
      >>> weights = [ops.convert_to_tensor([2.0])]
      >>> gradients = [ops.convert_to_tensor([7.0])]
      >>> weights, state = optimizer.apply(weights, optimizer.init(weights), gradients)
      >>> round(float(weights[0]), 4)
      1.9
    """
    settings = {
        "learning_rate": learning_rate,
        "beta_1": beta_1,
        "beta_2": beta_2,
        "epsilon": epsilon,
        "bias_correction": bias_correction,
        "initial_accumulator_value": initial_accumulator_value,
    }
    return adaptive("adam", settings, _mean_square)


def adamw(
    learning_rate: Rate,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0.004,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), as in Keras and TFF.

        w = w - learning_rate * weight_decay * w, followed by a step of Adam

    Args:
      learning_rate, beta_1, beta_2, epsilon: as in `adam`.
      weight_decay: at least 0.

    Example:
      >>> optimizer = adamw(0.1, weight_decay=0.5)
      >>> weights = [ops.convert_to_tensor([2.0])]
      >>> gradients = [ops.convert_to_tensor([0.0])]
      >>> weights, state = optimizer.apply(weights, optimizer.init(weights), gradients)
      >>> round(float(weights[0]), 4)  # 2 - 0.1 * 0.5 * 2
      1.9
    """
    settings = {
        "learning_rate": learning_rate,
        "beta_1": beta_1,
        "beta_2": beta_2,
        "epsilon": epsilon,
        "weight_decay": weight_decay,
    }
    return adaptive("adamw", settings, _mean_square)


def _mean_square(v: Tensor, g: Tensor, beta_2: float) -> Tensor:
    return v + (ops.square(g) - v) * (1 - beta_2)


def adaptive(
    name: str, settings: dict[str, Any], second_moment: Callable[[Tensor, Tensor, float], Tensor]
) -> Optimizer:
    """An optimizer that differs from Adam in its second moment.

    Args:
      name: of the optimizer.
      settings: its arguments: those of `adam`, and `weight_decay`. All but the learning rate,
        the betas and epsilon are optional.
      second_moment: (v, gradient, beta_2) -> v.
    """
    learning_rate, epsilon = settings["learning_rate"], settings["epsilon"]
    beta_1, beta_2 = settings["beta_1"], settings["beta_2"]
    initial = settings.get("initial_accumulator_value", 0.0)
    weight_decay = settings.get("weight_decay", 0.0)
    bias_correction = settings.get("bias_correction", True)
    check_rate(learning_rate)
    _checks.check_number("beta_1", beta_1, 0, below=1)
    _checks.check_number("beta_2", beta_2, 0, below=1)
    _checks.check_number("epsilon", epsilon, 0)
    _checks.check_number("initial_accumulator_value", initial, 0)
    _checks.check_number("weight_decay", weight_decay, 0)

    def init(weights):
        second = [ops.full(w.shape, initial, w.dtype) for w in weights]
        return Moments(ops.zeros([], "int64"), zeros_like(weights), second)

    def apply(weights, state, gradients, round_num=None):
        step = state.step + 1
        first = [m + (g - m) * (1 - beta_1) for m, g in zip(state.first, gradients)]
        second = [second_moment(v, g, beta_2) for v, g in zip(state.second, gradients)]
        rate = rate_in_round(learning_rate, round_num)
        corrected = rate * adam_factor(step, beta_1, beta_2) if bias_correction else rate

        def updated(w, m, v):
            if weight_decay:
                w = w - w * weight_decay * cast_like(rate, w)
            return w - cast_like(corrected, w) * m / (ops.sqrt(v) + epsilon)

        weights = [updated(w, m, v) for w, m, v in zip(weights, first, second)]
        return weights, Moments(step, first, second)

    return Optimizer(name, settings, init, apply)


def adam_factor(step: Tensor, beta_1: float, beta_2: float) -> Tensor:
    """Adam's correction of the learning rate, a float64 scalar.

    In float32, 1 - 0.999 is wrong by 1e-5.
    """
    t = ops.cast(step, "float64")
    beta_1 = ops.convert_to_tensor(beta_1, "float64")
    beta_2 = ops.convert_to_tensor(beta_2, "float64")
    return ops.sqrt(1 - beta_2**t) / (1 - beta_1**t)
