"""Mime: MimeLite whose clients correct each gradient by the mean gradient at the server's weights.

Breaking the Centralized Barrier for Cross-Device Federated Learning
Sai Praneeth Karimireddy et al. NeurIPS 2021. https://arxiv.org/abs/2008.03606

    g = sum_k p_k (the mean gradient of client k's examples at w) / sum_k p_k, known to all clients before they train
    each client k:  w_k = w;  for each batch b:
        w_k = optimizer(w_k, gradient(w_k, b) - gradient(w, b) + g) from statistics s, which stay as they are
    the server as in MimeLite
"""

from fedlab.algorithms.algorithm import wrap
from fedlab.algorithms.mime_lite import mean_gradient, mime_lite


def mime(*, client_weighting="num_examples", server_learning_rate=1.0):
    """Mime (Karimireddy et al. 2021, Algorithm 1), with the mean gradient of the round's own clients.

    Args: as `mime_lite`. What is said there of momentum holds here too.

    Returns:
      An `Algorithm`. Each round takes three gradients of each batch.

    Example:
      >>> mime().name
      'mime'
    """
    settings = dict(locals())
    lite = mime_lite(client_weighting=client_weighting, server_learning_rate=server_learning_rate)

    def client_init(task, weights):
        return weights, mean_gradient(task.survey)

    def client_step(task, weights, state, batch):
        trained, mean = state
        gradients = task.gradients(trained, batch)
        at_start = task.gradients(weights, batch, measure=False, update_statistics=False)
        corrected = [g - start + m for g, start, m in zip(gradients, at_start, mean)]
        return task.optimizer.apply(trained, task.broadcast, corrected)[0], mean

    def client_final(task, weights, state, counts):
        return lite.client_final(task, weights, state[0], counts)

    client = dict(client_init=client_init, client_step=client_step, client_final=client_final)
    return wrap(
        lite, lambda algorithm: algorithm._replace(name="mime", settings=settings, **client)
    )
