"""FedOpt: FedAvg with any optimizer on the server, which treats the mean delta as a gradient.

Adaptive Federated Optimization
Sashank Reddi et al. ICLR 2021. https://arxiv.org/abs/2003.00295

    clients as in FedAvg
    w, state = server_optimizer(w, state, delta)
"""

from fedlab import optimizers
from fedlab.algorithms.algorithm import Algorithm
from fedlab.algorithms.fed_avg import fed_avg
from fedlab.algorithms.weighting import Weighting
from fedlab.optimizers import Optimizer


def fed_opt(
    server_optimizer: Optimizer, *, client_weighting: Weighting = "num_examples"
) -> Algorithm:
    """FedOpt (Reddi et al. 2021, Algorithm 1).

    `fed_avgm`, `fed_adagrad`, `fed_adam` and `fed_yogi` are this with the papers' optimizers.

    Args:
      server_optimizer: an optimizer of `fedlab.optimizers`. SGD with rate 1 is FedAvg, bit for bit.
      client_weighting: as in `fed_avg`.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_opt(optimizers.rmsprop(0.01)).name
      'fed_opt'
    """
    optimizers.check(server_optimizer)

    def server_update(weights, state, update):
        return server_optimizer.apply(weights, state, update.delta, update.round_num)

    return fed_avg(client_weighting=client_weighting)._replace(
        name="fed_opt",
        settings={"server_optimizer": server_optimizer, "client_weighting": client_weighting},
        server_init=server_optimizer.init,
        server_update=server_update,
    )


def fed_opt_as(name: str, server_optimizer: Optimizer, client_weighting: Weighting) -> Algorithm:
    """FedOpt as the method `name`, whose settings are the optimizer's arguments."""
    settings = {
        "server_learning_rate": server_optimizer.settings["learning_rate"],
        **server_optimizer.settings,
        "client_weighting": client_weighting,
    }
    del settings["learning_rate"]
    algorithm = fed_opt(server_optimizer, client_weighting=client_weighting)
    return algorithm._replace(name=name, settings=settings)
