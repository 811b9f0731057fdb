"""FedOpt: FedAvg whose server treats the mean update as a gradient, for any optimizer.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    clients as in FedAvg
    w, state = server_optimizer(w, state, delta)
"""

from fedlab.algorithms.fed_avg import fed_avg
from fedlab.optimizers import optimizers


def fed_opt(server_optimizer, *, client_weighting="num_examples"):
    """FedOpt (Reddi et al. 2021, Algorithm 1). `fed_avgm`, `fed_adagrad`, `fed_adam` and `fed_yogi` are this with the paper's optimizers.

    Args:
      server_optimizer: one of `fedlab.optimizers.optimizers`; SGD with rate 1 is FedAvg, bit for bit.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> from fedlab.algorithms import optimizers
      >>> fed_opt(optimizers.rmsprop(0.01)).name
      'fed_opt'
    """
    settings = dict(locals())
    optimizers.check(server_optimizer)

    def server_update(weights, state, update):
        return server_optimizer.apply(weights, state, update.delta, update.round_num)

    return fed_avg(client_weighting=client_weighting)._replace(
        name="fed_opt",
        settings=settings,
        server_init=server_optimizer.init,
        server_update=server_update,
    )
