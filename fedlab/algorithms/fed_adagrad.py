"""FedAdagrad: FedAvg with Adagrad at the server.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    v = v + delta ** 2
    w = w - server_learning_rate * delta / (sqrt(v) + epsilon)
"""

from fedlab.algorithms.fed_opt import fed_opt
from fedlab.optimizers import optimizers


def fed_adagrad(
    server_learning_rate,
    *,
    epsilon=1e-3,
    epsilon_in_root=False,
    initial_accumulator_value=0.0,
    client_weighting="num_examples",
):
    """FedAdagrad (Reddi et al. 2021, Algorithm 2, with beta_1 = 0 as in its experiments).

    Args:
      server_learning_rate: 0 or more, or a schedule over rounds.
      epsilon: the paper's tau, 0 or more.
      epsilon_in_root: divides by sqrt(v + epsilon), as Keras and TFF do, rather than as the paper.
      initial_accumulator_value: v before the first round, 0 or more. Algorithm 2 asks for at least
        tau ** 2: pass `epsilon**2` for the paper's. The default, 0, is that of the authors' code, of
        TFF and of Flower.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_adagrad(0.1).name
      'fed_adagrad'
    """
    settings = dict(locals())
    server_optimizer = optimizers.adagrad(
        server_learning_rate, initial_accumulator_value, epsilon, epsilon_in_root
    )
    return fed_opt(server_optimizer, client_weighting=client_weighting)._replace(
        name="fed_adagrad", settings=settings
    )
