"""FedAdam: FedAvg with Adam on the server.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    m = beta_1 * m + (1 - beta_1) * delta
    v = beta_2 * v + (1 - beta_2) * delta ** 2
    w = w - server_learning_rate * m / (sqrt(v) + epsilon)
"""

from fedlab import optimizers
from fedlab.algorithms.algorithm import Algorithm
from fedlab.algorithms.fed_opt import fed_opt_as
from fedlab.algorithms.weighting import Weighting
from fedlab.optimizers.optimizer import Rate


def fed_adam(
    server_learning_rate: Rate = 0.01,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-3,
    bias_correction: bool = True,
    initial_accumulator_value: float = 0.0,
    client_weighting: Weighting = "num_examples",
) -> Algorithm:
    """FedAdam (Reddi et al. 2021, Algorithm 2), by default as in the authors' code.

    For the rule as published, pass `bias_correction=False` and
    `initial_accumulator_value=epsilon**2`. The paper's experiments use a beta_2 of 0.99.

    Args:
      server_learning_rate: at least 0, or a schedule over rounds. The default was the best in
        the paper's experiments on Shakespeare and on next words of Stack Overflow, with SGD rates
        of 1 and 0.3 on the clients. For images, 0.003 (EMNIST) and 1 (CIFAR-100) were better.
        Source: the authors' table of best rates, google-research/federated,
        optimization/docs/hyperparameters.md.
      beta_1, beta_2: at least 0 and below 1. The defaults are those of the authors' code.
      epsilon: the paper's tau, at least 0.
      bias_correction: whether to multiply the rate by sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)
        in round t, as the authors' code and TFF do. Algorithm 2 has no such factor.
      initial_accumulator_value: v before the first round, at least 0. Algorithm 2 requires at
        least tau ** 2: pass `epsilon**2`. The default is that of the authors' code, TFF and Flower.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_adam().settings["server_learning_rate"]
      0.01
    """
    adam = optimizers.adam(
        server_learning_rate, beta_1, beta_2, epsilon, bias_correction, initial_accumulator_value
    )
    return fed_opt_as("fed_adam", adam, client_weighting)
