"""FedProx: FedAvg with a penalty on the distance between the client's and the global weights.

Federated Optimization in Heterogeneous Networks
Tian Li, Anit Kumar Sahu, Manzil Zaheer, Maziar Sanjabi, Ameet Talwalkar, Virginia Smith.
MLSys 2020. https://arxiv.org/abs/1812.06127

    each client k minimizes  F_k(w_k) + mu / 2 ||w_k - w||^2:  for each batch b:
        w_k = client_optimizer(w_k, gradient(w_k, b) + mu (w_k - w))
    the server as in FedAvg
"""

from fedlab import _checks
from fedlab.algorithms.algorithm import Algorithm
from fedlab.algorithms.fed_avg import ClientState, fed_avg
from fedlab.algorithms.weighting import Weighting
from fedlab.optimizers.optimizer import Rate


def fed_prox(
    mu: float,
    *,
    client_weighting: Weighting = "num_examples",
    server_learning_rate: Rate = 1.0,
    server_momentum: float = 0.0,
) -> Algorithm:
    """FedProx (Li et al. 2020, Algorithm 2).

    Args:
      mu: at least 0; 0 is FedAvg, bit for bit.
      client_weighting, server_learning_rate, server_momentum: as in `fed_avg`. The paper samples
        clients by their number of examples and computes the unweighted mean. Its code weights by
        the number of examples, the default here.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_prox(0.1).settings["mu"]
      0.1
    """
    _checks.check_number("mu", mu, 0)
    base = fed_avg(
        client_weighting=client_weighting,
        server_learning_rate=server_learning_rate,
        server_momentum=server_momentum,
    )

    def client_step(task, weights, state, batch):
        gradients = task.gradients(state.weights, batch)
        gradients = [g + mu * (w - start) for g, w, start in zip(gradients, state.weights, weights)]
        return ClientState(*task.optimizer.apply(state.weights, state.optimizer, gradients))

    return base._replace(
        name="fed_prox", settings={"mu": mu, **base.settings}, client_step=client_step
    )
