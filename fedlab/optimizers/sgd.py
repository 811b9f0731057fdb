"""Gradient descent."""

from fedlab import _checks
from fedlab.optimizers.optimizer import (
    Optimizer,
    Rate,
    cast_like,
    check_rate,
    rate_in_round,
    zeros_like,
)


def sgd(learning_rate: Rate, momentum: float = 0.0, nesterov: bool = False) -> Optimizer:
    """Gradient descent with momentum (Polyak 1964), as Keras and TFF define it.

        m = momentum * m + g
        w = w - learning_rate * (g + momentum * m if nesterov else m)

    Args:
      learning_rate: at least 0, or a schedule over rounds (`fedlab.optimizers.schedules`).
      momentum: at least 0 and below 1.
      nesterov: whether to use Nesterov's form of momentum.

    Example:
      >>> from fedlab import ops
      >>> optimizer = sgd(0.5, momentum=0.9)
      >>> weights = [ops.convert_to_tensor([2.0])]
      >>> state = optimizer.init(weights)
      >>> for _ in range(2):
      ...     weights, state = optimizer.apply(weights, state, [ops.convert_to_tensor([1.0])])
      >>> round(float(weights[0]), 2)  # 2 - 0.5 * 1 - 0.5 * 1.9
      0.55
    """
    check_rate(learning_rate)
    _checks.check_number("momentum", momentum, 0, below=1)
    settings = {"learning_rate": learning_rate, "momentum": momentum, "nesterov": nesterov}

    def init(weights):
        return zeros_like(weights) if momentum else []

    def apply(weights, state, gradients, round_num=None):
        rate = rate_in_round(learning_rate, round_num)
        step = gradients
        if momentum:
            state = step = [momentum * m + g for m, g in zip(state, gradients)]
            if nesterov:
                step = [g + momentum * m for m, g in zip(state, gradients)]
        return [w - cast_like(rate, w) * s for w, s in zip(weights, step)], state

    return Optimizer("sgd", settings, init, apply)
