"""Adagrad, and what it shares with RMSprop."""

from fedlab import _checks, ops
from fedlab.ops import Tensor, Weights
from fedlab.optimizers.optimizer import Optimizer, Rate, cast_like, check_rate, rate_in_round


def adagrad(
    learning_rate: Rate,
    initial_accumulator_value: float = 0.1,
    epsilon: float = 1e-7,
    epsilon_in_root: bool = True,
) -> Optimizer:
    """Adagrad (Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html), as in Keras and TFF.

        v = v + g ** 2
        w = w - learning_rate * g / sqrt(v + epsilon)

    Args:
      learning_rate: at least 0, or a schedule over rounds (`fedlab.optimizers.schedules`).
      initial_accumulator_value: v before the first step, at least 0.
      epsilon: at least 0.
      epsilon_in_root: if false, the divisor is sqrt(v) + epsilon.

    Example:
      >>> optimizer = adagrad(0.1, initial_accumulator_value=0.0)
      >>> weights = [ops.convert_to_tensor([2.0])]
      >>> gradients = [ops.convert_to_tensor([7.0])]
      >>> weights, state = optimizer.apply(weights, optimizer.init(weights), gradients)
      >>> round(float(weights[0]), 4)
      1.9
    """
    check_rate(learning_rate)
    _checks.check_number("initial_accumulator_value", initial_accumulator_value, 0)
    _checks.check_number("epsilon", epsilon, 0)
    settings = {
        "learning_rate": learning_rate,
        "initial_accumulator_value": initial_accumulator_value,
        "epsilon": epsilon,
        "epsilon_in_root": epsilon_in_root,
    }

    def init(weights):
        return [ops.full(w.shape, initial_accumulator_value, w.dtype) for w in weights]

    def apply(weights, state, gradients, round_num=None):
        rate = rate_in_round(learning_rate, round_num)
        state = [v + ops.square(g) for v, g in zip(state, gradients)]
        return scaled_step(weights, gradients, state, rate, epsilon, epsilon_in_root), state

    return Optimizer("adagrad", settings, init, apply)


def scaled_step(
    weights: Weights,
    gradients: Weights,
    squares: Weights,
    rate: float | Tensor,
    epsilon: float,
    epsilon_in_root: bool,
) -> Weights:
    """w - rate * g / sqrt(v + epsilon), or / (sqrt(v) + epsilon), for each weight."""

    def divisor(v):
        return ops.sqrt(v + epsilon) if epsilon_in_root else ops.sqrt(v) + epsilon

    return [w - cast_like(rate, w) * g / divisor(v) for w, g, v in zip(weights, gradients, squares)]
