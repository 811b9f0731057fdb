"""Mime: MimeLite with gradients that are corrected by the full gradient at the server's weights.

Breaking the Centralized Barrier for Cross-Device Federated Learning
Sai Praneeth Karimireddy et al. NeurIPS 2021. https://arxiv.org/abs/2008.03606

    g = sum_k p_k (the full gradient of client k's examples at w) / sum_k p_k, before training
    each client k:  w_k = w;  for each batch b:
        w_k = optimizer(w_k, gradient(w_k, b) - gradient(w, b) + g) with the state s
    the server as in MimeLite
"""

from fedlab.algorithms.algorithm import Algorithm, wrap
from fedlab.algorithms.fed_sgd import mean_gradient
from fedlab.algorithms.mime_lite import mime_lite
from fedlab.algorithms.weighting import Weighting
from fedlab.optimizers.optimizer import Rate


def mime(
    *, client_weighting: Weighting = "num_examples", server_learning_rate: Rate = 1.0
) -> Algorithm:
    """Mime (Karimireddy et al. 2021, Algorithm 1), with the full gradient of the cohort.

    Args: as in `mime_lite`, whose note on momentum applies here too.

    Returns:
      An `Algorithm`. Each round computes three gradients per batch.

    Example:
      >>> mime().name
      'mime'
    """
    lite = mime_lite(client_weighting=client_weighting, server_learning_rate=server_learning_rate)

    def client_init(task, weights):
        return weights, mean_gradient(task.survey)

    def client_step(task, weights, state, batch):
        trained, full = state
        gradients = task.gradients(trained, batch)
        at_start = task.gradients(weights, batch, measure=False, update_statistics=False)
        corrected = [g - start + f for g, start, f in zip(gradients, at_start, full)]
        return task.optimizer.apply(trained, task.broadcast, corrected)[0], full

    def client_final(task, weights, state, counts):
        return lite.client_final(task, weights, state[0], counts)

    def change(algorithm):
        return algorithm._replace(
            name="mime",
            client_init=client_init,
            client_step=client_step,
            client_final=client_final,
        )

    return wrap(lite, change)
