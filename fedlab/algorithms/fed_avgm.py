"""FedAvgM: FedAvg with momentum on the server.

Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification
Tzu-Ming Harry Hsu, Hang Qi, Matthew Brown. 2019. https://arxiv.org/abs/1909.06335

    m = momentum * m + delta
    w = w - server_learning_rate * (delta + momentum * m if nesterov else m)
"""

from fedlab import optimizers
from fedlab.algorithms.algorithm import Algorithm
from fedlab.algorithms.fed_opt import fed_opt_as
from fedlab.algorithms.weighting import Weighting
from fedlab.optimizers.optimizer import Rate


def fed_avgm(
    server_learning_rate: Rate = 1.0,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    client_weighting: Weighting = "num_examples",
) -> Algorithm:
    """FedAvgM (Hsu et al. 2019, Section 4.3; Reddi et al. 2021, with a momentum of 0.9).

    Args:
      server_learning_rate: at least 0, or a schedule over rounds. In the experiments of Reddi et
        al., the default was the best on CIFAR-100 and Stack Overflow, and 0.3 on EMNIST and
        Shakespeare. Source: as in `fed_adam`.
      momentum: at least 0 and below 1.
      nesterov: whether to use Nesterov's form of momentum, as in Hsu et al.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_avgm(0.3).name
      'fed_avgm'
    """
    sgd = optimizers.sgd(server_learning_rate, momentum, nesterov)
    return fed_opt_as("fed_avgm", sgd, client_weighting)
