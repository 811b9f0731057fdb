"""FedAvg: clients train, and the server averages.

Communication-Efficient Learning of Deep Networks from Decentralized Data
Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Aguera y Arcas.
AISTATS 2017. https://arxiv.org/abs/1602.05629

    each client k of the cohort:
        w_k = w;  for each batch b:  w_k = client_optimizer(w_k, gradient(w_k, b))
    delta = sum_k p_k (w - w_k) / sum_k p_k
    w = w - server_learning_rate * delta
"""

from typing import NamedTuple

from fedlab import optimizers
from fedlab.algorithms import weighting
from fedlab.algorithms.algorithm import Algorithm, ClientResult, weights_delta
from fedlab.ops import Nest, Weights
from fedlab.optimizers.optimizer import Rate


class ClientState(NamedTuple):
    """The client's weights, and the state of its optimizer."""

    weights: Weights
    optimizer: Nest


def fed_avg(
    *,
    client_weighting: weighting.Weighting = "num_examples",
    server_learning_rate: Rate = 1.0,
    server_momentum: float = 0.0,
) -> Algorithm:
    """Federated averaging (McMahan et al. 2017, Algorithm 1).

    Args:
      client_weighting: p_k: "num_examples", "num_tokens", "uniform", a function of `Counts` that
        returns a scalar tensor of at least 0, or `fedlab.algorithms.by_client(...)`, which can use
        the client's id and last loss.
      server_learning_rate: at least 0, or a schedule over rounds. 1.0 is plain averaging.
      server_momentum: at least 0 and below 1. The delta is replaced by
        m = server_momentum * m + delta, as in `fed_avgm`.

    Returns:
      An `Algorithm`. The client optimizer is the one that the model was compiled with. Every
      client starts with a new optimizer state.

    Example:
      >>> fed_avg(server_momentum=0.9).name
      'fed_avg'
    """
    weight_of = weighting.get(client_weighting)
    server_optimizer = optimizers.sgd(server_learning_rate, server_momentum)

    def client_init(task, weights):
        return ClientState(weights, task.optimizer.init(weights))

    def client_step(task, weights, state, batch):
        gradients = task.gradients(state.weights, batch)
        return ClientState(*task.optimizer.apply(state.weights, state.optimizer, gradients))

    def client_final(task, weights, state, counts):
        return ClientResult(weights_delta(weights, state.weights), weight_of(counts))

    def server_update(weights, state, update):
        return server_optimizer.apply(weights, state, update.delta, update.round_num)

    return Algorithm(
        name="fed_avg",
        settings={
            "client_weighting": client_weighting,
            "server_learning_rate": server_learning_rate,
            "server_momentum": server_momentum,
        },
        server_init=server_optimizer.init,
        client_init=client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=server_update,
        weigh=weighting.weigh_of(client_weighting),
    )
