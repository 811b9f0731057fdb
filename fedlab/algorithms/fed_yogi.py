"""FedYogi: FedAvg with Yogi on the server.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    m = beta_1 * m + (1 - beta_1) * delta
    v = v - (1 - beta_2) * sign(v - delta ** 2) * delta ** 2
    w = w - server_learning_rate * m / (sqrt(v) + epsilon)
"""

from fedlab import optimizers
from fedlab.algorithms.algorithm import Algorithm
from fedlab.algorithms.fed_opt import fed_opt_as
from fedlab.algorithms.weighting import Weighting
from fedlab.optimizers.optimizer import Rate


def fed_yogi(
    server_learning_rate: Rate = 0.01,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-3,
    bias_correction: bool = True,
    initial_accumulator_value: float = 0.0,
    client_weighting: Weighting = "num_examples",
) -> Algorithm:
    """FedYogi (Reddi et al. 2021, Algorithm 2), by default as in the authors' code.

    The authors found it the most consistently good of their methods.

    Args: as in `fed_adam`, and so are the arguments for the rule as published. In the paper's
      experiments, the same server rates as for FedAdam were the best.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_yogi().settings["server_learning_rate"]
      0.01
    """
    yogi = optimizers.yogi(
        server_learning_rate, beta_1, beta_2, epsilon, initial_accumulator_value, bias_correction
    )
    return fed_opt_as("fed_yogi", yogi, client_weighting)
