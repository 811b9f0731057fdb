"""FedSGD: clients send the gradient of all their examples, the server takes one step.

Communication-Efficient Learning of Deep Networks from Decentralized Data
Brendan McMahan, Eider Moore, Daniel Ramage, Seth Hampson, Blaise Aguera y Arcas. AISTATS 2017. https://arxiv.org/abs/1602.05629

    each client k of n_k examples:  g_k = the mean gradient of its examples at w
    w = server_optimizer(w, sum_k n_k g_k / sum_k n_k)
"""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.algorithms import weighting
from fedlab.algorithms.algorithm import Algorithm, ClientResult, completed
from fedlab.optimizers import optimizers


class GradientSum(NamedTuple):
    gradients: Any
    num_examples: Any


def fed_sgd(server_optimizer=None, *, client_weighting="num_examples"):
    """Federated SGD (McMahan et al. 2017, Section 2). With all clients in every round it is centralized gradient descent.

    Args:
      server_optimizer: one of `fedlab.optimizers.optimizers`; by default the optimizer that the model was compiled with.
      client_weighting: n_k, as in `fed_avg`.

    Returns:
      An `Algorithm`. Clients take no steps: they use neither the optimizer nor, as long as batches count by their examples, the batch size.

    Example:
      >>> fed_sgd().name
      'fed_sgd'
    """
    settings = dict(locals())
    weight_of = weighting.get(client_weighting)

    def client_init(task, weights):
        return GradientSum([tf.zeros_like(w) for w in weights], tf.zeros([]))

    def client_step(task, weights, state, batch):
        gradients = task.gradients(weights, batch)
        total = [
            t + tf.cast(batch.num_examples, g.dtype) * g for t, g in zip(state.gradients, gradients)
        ]
        return GradientSum(total, state.num_examples + batch.num_examples)

    def client_final(task, weights, state, counts):
        mean = [
            tf.math.divide_no_nan(t, tf.cast(state.num_examples, t.dtype)) for t in state.gradients
        ]
        return ClientResult(mean, weight_of(counts))

    def with_server(optimizer):
        def server_update(weights, state, update):
            return optimizer.apply(weights, state, update.delta, update.round_num)

        return {"server_init": optimizer.init, "server_update": server_update}

    clients = Algorithm(
        "fed_sgd", settings, None, client_init, client_step, client_final, None
    )._replace(weigh=weighting.weigh_of(client_weighting))
    if server_optimizer is not None:
        return clients._replace(**with_server(optimizers.check(server_optimizer)))
    return completed(clients, with_server)
