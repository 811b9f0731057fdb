"""Yogi. `fedlab.optimizers.Yogi` is the same optimizer for `compile()`."""

from fedlab import ops
from fedlab.optimizers.adam import adaptive
from fedlab.optimizers.optimizer import Optimizer, Rate


def yogi(
    learning_rate: Rate,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-3,
    initial_accumulator_value: float = 1e-6,
    bias_correction: bool = True,
) -> Optimizer:
    """Yogi (Zaheer et al. 2018, https://papers.nips.cc/paper/8186), as in TFF.

        v = v - (1 - beta_2) * sign(v - g ** 2) * g ** 2                    the rest as in Adam

    Args: as in `adam`.

    Example:
      >>> optimizer = yogi(0.1, epsilon=0.0, initial_accumulator_value=0.0)
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
        "initial_accumulator_value": initial_accumulator_value,
        "bias_correction": bias_correction,
    }

    def second_moment(v, g, beta_2):
        square = ops.square(g)
        return v + (1 - beta_2) * ops.sign(square - v) * square

    return adaptive("yogi", settings, second_moment)
