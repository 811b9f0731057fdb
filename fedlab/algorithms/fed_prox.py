"""FedProx: FedAvg whose clients are held near the global weights.

Federated Optimization in Heterogeneous Networks
Tian Li, Anit Kumar Sahu, Manzil Zaheer, Maziar Sanjabi, Ameet Talwalkar, Virginia Smith. MLSys 2020. https://arxiv.org/abs/1812.06127

    each client k minimizes  F_k(w_k) + mu / 2 ||w_k - w||^2:  for each batch b:
        w_k = client_optimizer(w_k, gradient(w_k, b) + mu (w_k - w))
    the server as in FedAvg
"""

import math

from fedlab import _checks
from fedlab.algorithms.fed_avg import ClientState, fed_avg


def fed_prox(mu, *, client_weighting="num_examples", server_learning_rate=1.0, server_momentum=0.0):
    """FedProx (Li et al. 2020, Algorithm 2).

    Args:
      mu: 0 or more; 0 is FedAvg, bit for bit.
      client_weighting, server_learning_rate, server_momentum: as in `fed_avg`. The paper draws clients by their numbers of examples and
        then takes the plain mean; its code takes the mean by numbers of examples, the default here.

    Returns:
      An `Algorithm`.

    Example:
      >>> fed_prox(0.1).settings["mu"]
      0.1
    """
    settings = dict(locals())
    if not _checks.is_number(mu) or not 0 <= mu < math.inf:
        raise ValueError(f"mu is {mu!r}; allowed: 0 or more.")
    base = fed_avg(
        client_weighting=client_weighting,
        server_learning_rate=server_learning_rate,
        server_momentum=server_momentum,
    )

    def client_step(task, weights, state, batch):
        gradients = task.gradients(state.weights, batch)
        gradients = [g + mu * (w - start) for g, w, start in zip(gradients, state.weights, weights)]
        return ClientState(*task.optimizer.apply(state.weights, state.optimizer, gradients))

    return base._replace(name="fed_prox", settings=settings, client_step=client_step)
