"""FedAvgM: FedAvg with momentum at the server.

Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification
Tzu-Ming Harry Hsu, Hang Qi, Matthew Brown. 2019. https://arxiv.org/abs/1909.06335

    m = momentum * m + delta
    w = w - server_learning_rate * m        (nesterov:  w - server_learning_rate * (delta + momentum * m))
"""

from fedlab.algorithms.fed_opt import fed_opt
from fedlab.optimizers import optimizers


def fed_avgm(
    server_learning_rate=1.0, *, momentum=0.9, nesterov=False, client_weighting="num_examples"
):
    """FedAvgM (Hsu et al. 2019, Section 4.3; Reddi et al. 2021, whose momentum is .9).

    Args:
      server_learning_rate: 0 or more, or a schedule over rounds.
      momentum: 0 or more, below 1.
      nesterov: whether the step looks ahead, as in Hsu et al.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_avgm(0.3).name
      'fed_avgm'
    """
    settings = dict(locals())
    server_optimizer = optimizers.sgd(server_learning_rate, momentum, nesterov)
    return fed_opt(server_optimizer, client_weighting=client_weighting)._replace(
        name="fed_avgm", settings=settings
    )
