"""FedYogi: FedAvg with Yogi at the server.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    m = beta_1 * m + (1 - beta_1) * delta
    v = v - (1 - beta_2) * sign(v - delta ** 2) * delta ** 2
    w = w - server_learning_rate * m / (sqrt(v) + epsilon)
"""

from fedlab.algorithms.fed_opt import fed_opt
from fedlab.optimizers import optimizers


def fed_yogi(
    server_learning_rate,
    *,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-3,
    bias_correction=True,
    initial_accumulator_value=0.0,
    client_weighting="num_examples",
):
    """FedYogi (Reddi et al. 2021, Algorithm 2), by default as in the authors' code.

    Two arguments make it the paper's rule: `bias_correction=False` and
    `initial_accumulator_value=epsilon**2`. The paper's experiments have a beta_2 of 0.99.

    Args:
      server_learning_rate: 0 or more, or a schedule over rounds.
      beta_1, beta_2: 0 or more, below 1; the defaults are those of the authors' code.
      epsilon: the paper's tau, 0 or more.
      bias_correction: multiplies the rate by sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t) in round t, as
        the authors' code and TFF do. Algorithm 2 has no such factor.
      initial_accumulator_value: v before the first round, 0 or more. Algorithm 2 asks for at least
        tau ** 2: pass `epsilon**2` for the paper's. The default, 0, is that of the authors' code, of
        TFF and of Flower.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_yogi(0.01).name
      'fed_yogi'
    """
    settings = dict(locals())
    server_optimizer = optimizers.yogi(
        server_learning_rate, beta_1, beta_2, epsilon, initial_accumulator_value, bias_correction
    )
    return fed_opt(server_optimizer, client_weighting=client_weighting)._replace(
        name="fed_yogi", settings=settings
    )
