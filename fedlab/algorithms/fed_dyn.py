"""FedDyn: each client's loss is changed so that all clients' minima agree with the global one.

Federated Learning Based on Dynamic Regularization
Durmus Alp Emre Acar et al. ICLR 2021. https://arxiv.org/abs/2111.04263

    each client k of the cohort S minimizes  F_k(w_k) - <g_k, w_k> + alpha / 2 ||w_k - w||^2:  w_k = w;  for each batch b:
        w_k = client_optimizer(w_k, gradient(w_k, b) - g_k + alpha (w_k - w))
    each client keeps g_k = g_k - alpha (w_k - w)
    h = h - alpha sum_k (w_k - w) / N                                      of N clients in all
    w = sum_k w_k / |S| - h / alpha
"""

import tensorflow as tf

from fedlab import _checks
from fedlab.algorithms.algorithm import Algorithm, ClientResult
from fedlab.algorithms.fed_avg import ClientState, fed_avg


def fed_dyn(alpha):
    """FedDyn (Acar et al. 2021, Algorithm 1). Clients count alike, as in the paper.

    Args:
      alpha: above 0; the paper's are .001 to .1.

    Returns:
      An `Algorithm` whose clients keep a gradient of the model's size, zero at first.

    Example:
      >>> fed_dyn(0.01).name
      'fed_dyn'
    """
    settings = dict(locals())
    if not _checks.is_number(alpha) or not 0 < alpha < float("inf"):
        raise ValueError(f"alpha is {alpha!r}; allowed: above 0.")

    def zeros(weights):
        return [tf.zeros_like(w) for w in weights]

    def client_step(task, weights, state, batch):
        gradients = task.gradients(state.weights, batch)
        changed = [
            g - own + alpha * (w - start)
            for g, own, w, start in zip(gradients, task.client_state, state.weights, weights)
        ]
        return ClientState(*task.optimizer.apply(state.weights, state.optimizer, changed))

    def client_final(task, weights, state, counts):
        delta = [before - after for before, after in zip(weights, state.weights)]
        gradient = [own + alpha * d for own, d in zip(task.client_state, delta)]
        return ClientResult(delta, tf.ones_like(counts.num_examples), state=gradient)

    def server_update(weights, h, update):
        def share(dtype):
            return tf.cast(update.num_clients, dtype) / tf.cast(update.total_clients, dtype)

        h = [before + alpha * share(d.dtype) * d for before, d in zip(h, update.delta)]
        return [w - d - before / alpha for w, d, before in zip(weights, update.delta, h)], h

    return Algorithm(
        name="fed_dyn",
        settings=settings,
        server_init=zeros,
        client_init=fed_avg().client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=server_update,
        client_state=zeros,
    )
