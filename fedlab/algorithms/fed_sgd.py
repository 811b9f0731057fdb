"""FedSGD: clients send the gradient on all their examples, and the server takes one step.

Communication-Efficient Learning of Deep Networks from Decentralized Data
Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Aguera y Arcas.
AISTATS 2017. https://arxiv.org/abs/1602.05629

    each client k of n_k examples:  g_k = the mean gradient of its examples at w
    w = server_optimizer(w, sum_k n_k g_k / sum_k n_k)
"""

from typing import NamedTuple

from fedlab import ops, optimizers
from fedlab.algorithms import weighting
from fedlab.algorithms.algorithm import Algorithm, Batch, ClientResult, completed, unprepared
from fedlab.ops import Tensor, Weights
from fedlab.optimizers import Optimizer
from fedlab.optimizers.optimizer import zeros_like


class GradientSum(NamedTuple):
    """A sum of gradients, each times its weight, and the sum of the weights, a scalar."""

    gradients: Weights
    weight: Tensor


def fed_sgd(
    server_optimizer: Optimizer | None = None,
    *,
    client_weighting: weighting.Weighting = "num_examples",
) -> Algorithm:
    """Federated SGD (McMahan et al. 2017, Section 2).

    If every round has all clients, this is centralized gradient descent.

    Args:
      server_optimizer: an optimizer of `fedlab.optimizers`, by default the optimizer that the
        model was compiled with.
      client_weighting: n_k, as in `fed_avg`.

    Returns:
      An `Algorithm`. Clients take no steps, so they use no optimizer. As long as batches are
      weighted by their number of examples, the batch size does not matter.

    Example:
      >>> fed_sgd().name
      'fed_sgd'
    """
    weight_of = weighting.get(client_weighting)

    def client_init(task, weights):
        return GradientSum(zeros_like(weights), ops.zeros([]))

    def client_step(task, weights, state, batch):
        return add_gradients(state, task.gradients(weights, batch), batch)

    def client_final(task, weights, state, counts):
        return ClientResult(mean_gradient(state), weight_of(counts))

    def with_server(optimizer):
        def server_update(weights, state, update):
            return optimizer.apply(weights, state, update.delta, update.round_num)

        return {"server_init": optimizer.init, "server_update": server_update}

    clients = Algorithm(
        name="fed_sgd",
        settings={"server_optimizer": server_optimizer, "client_weighting": client_weighting},
        server_init=unprepared,
        client_init=client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=unprepared,
        weigh=weighting.weigh_of(client_weighting),
    )
    if server_optimizer is not None:
        return clients._replace(**with_server(optimizers.check(server_optimizer)))
    return completed(clients, with_server)


def add_gradients(total: GradientSum, gradients: Weights, batch: Batch) -> GradientSum:
    """Adds a batch's mean gradient, weighted by its number of examples."""
    gradients = [
        t + ops.cast(batch.num_examples, g.dtype) * g for t, g in zip(total.gradients, gradients)
    ]
    return GradientSum(gradients, total.weight + ops.cast(batch.num_examples, total.weight.dtype))


def mean_gradient(total: GradientSum) -> Weights:
    """The weighted mean of the gradients, zero if there are none."""
    return [ops.divide_no_nan(g, ops.cast(total.weight, g.dtype)) for g in total.gradients]
