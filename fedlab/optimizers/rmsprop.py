"""RMSprop."""

from fedlab import _checks, ops
from fedlab.optimizers.adagrad import scaled_step
from fedlab.optimizers.optimizer import Optimizer, Rate, check_rate, rate_in_round, zeros_like


def rmsprop(
    learning_rate: Rate, rho: float = 0.9, epsilon: float = 1e-7, epsilon_in_root: bool = True
) -> Optimizer:
    """RMSprop (Tieleman and Hinton 2012, Coursera lecture 6e), as in Keras.

        v = rho * v + (1 - rho) * g ** 2
        w = w - learning_rate * g / sqrt(v + epsilon)

    Args:
      learning_rate: at least 0, or a schedule over rounds (`fedlab.optimizers.schedules`).
      rho: at least 0 and below 1.
      epsilon: at least 0.
      epsilon_in_root: if false, the divisor is sqrt(v) + epsilon, as in TFF.

    Example:
      >>> optimizer = rmsprop(0.1, rho=0.75)
      >>> weights = [ops.convert_to_tensor([2.0])]
      >>> gradients = [ops.convert_to_tensor([7.0])]
      >>> weights, state = optimizer.apply(weights, optimizer.init(weights), gradients)
      >>> round(float(weights[0]), 4)  # 2 - 0.1 / sqrt(0.25)
      1.8
    """
    check_rate(learning_rate)
    _checks.check_number("rho", rho, 0, below=1)
    _checks.check_number("epsilon", epsilon, 0)
    settings = {
        "learning_rate": learning_rate,
        "rho": rho,
        "epsilon": epsilon,
        "epsilon_in_root": epsilon_in_root,
    }

    def apply(weights, state, gradients, round_num=None):
        rate = rate_in_round(learning_rate, round_num)
        state = [rho * v + (1 - rho) * ops.square(g) for v, g in zip(state, gradients)]
        return scaled_step(weights, gradients, state, rate, epsilon, epsilon_in_root), state

    return Optimizer("rmsprop", settings, zeros_like, apply)
