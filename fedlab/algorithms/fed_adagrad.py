"""FedAdagrad: FedAvg with Adagrad on the server.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    v = v + delta ** 2
    w = w - server_learning_rate * delta / (sqrt(v) + epsilon)
"""

from fedlab import optimizers
from fedlab.algorithms.algorithm import Algorithm
from fedlab.algorithms.fed_opt import fed_opt_as
from fedlab.algorithms.weighting import Weighting
from fedlab.optimizers.optimizer import Rate


def fed_adagrad(
    server_learning_rate: Rate = 0.1,
    *,
    epsilon: float = 1e-3,
    epsilon_in_root: bool = False,
    initial_accumulator_value: float = 0.0,
    client_weighting: Weighting = "num_examples",
) -> Algorithm:
    """FedAdagrad (Reddi et al. 2021, Algorithm 2, with beta_1 = 0 as in its experiments).

    Args:
      server_learning_rate: at least 0, or a schedule over rounds. The default was the best in
        the paper's experiments on EMNIST and CIFAR-100, with SGD rates of 0.03 and 0.1 on the
        clients. For text, 0.3 (Shakespeare) and 0.03 (Stack Overflow) were better. Source: as
        in `fed_adam`.
      epsilon: the paper's tau, at least 0.
      epsilon_in_root: whether to divide by sqrt(v + epsilon), as Keras and TFF do, instead of the
        paper's sqrt(v) + epsilon.
      initial_accumulator_value: as in `fed_adam`.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_adagrad().settings["server_learning_rate"]
      0.1
    """
    adagrad = optimizers.adagrad(
        server_learning_rate, initial_accumulator_value, epsilon, epsilon_in_root
    )
    return fed_opt_as("fed_adagrad", adagrad, client_weighting)
