"""FedDyn: each client's loss is changed so that its minimum agrees with the global one.

Federated Learning Based on Dynamic Regularization
Durmus Alp Emre Acar et al. ICLR 2021. https://arxiv.org/abs/2111.04263

    each client k of the cohort S minimizes  F_k(w_k) - <g_k, w_k> + alpha / 2 ||w_k - w||^2:
        w_k = w;  for each batch b:
            w_k = client_optimizer(w_k, gradient(w_k, b) - g_k + alpha (w_k - w))
        client state:  g_k = g_k - alpha (w_k - w)
    h = h - alpha sum_k (w_k - w) / N                                      of N clients in all
    w = sum_k w_k / |S| - h / alpha
"""

from fedlab import _checks, ops
from fedlab.algorithms.algorithm import Algorithm, ClientResult, weights_delta
from fedlab.algorithms.fed_avg import ClientState, fed_avg
from fedlab.optimizers.optimizer import zeros_like


def fed_dyn(alpha: float = 0.01) -> Algorithm:
    """FedDyn (Acar et al. 2021, Algorithm 1). All clients have the same weight, as in the paper.

    Args:
      alpha: above 0. The paper's values are 0.001 to 0.1; the default is that of the authors'
        code for CIFAR-10 (alpemreacar/FedDyn, example_cifar_10.py).

    Returns:
      An `Algorithm`. The client state is a gradient of the model's size, initially zero.

    Example:
      >>> fed_dyn().settings
      {'alpha': 0.01}
    """
    _checks.check_number("alpha", alpha, above=0)

    def client_step(task, weights, state, batch):
        gradients = task.gradients(state.weights, batch)
        changed = [
            g - linear + alpha * (w - start)
            for g, linear, w, start in zip(gradients, task.client_state, state.weights, weights)
        ]
        return ClientState(*task.optimizer.apply(state.weights, state.optimizer, changed))

    def client_final(task, weights, state, counts):
        delta = weights_delta(weights, state.weights)
        linear = [before + alpha * d for before, d in zip(task.client_state, delta)]
        return ClientResult(delta, ops.ones_like(counts.num_examples), state=linear)

    def server_update(weights, h, update):
        def participation(dtype):
            return ops.cast(update.num_clients, dtype) / ops.cast(update.total_clients, dtype)

        h = [before + alpha * participation(d.dtype) * d for before, d in zip(h, update.delta)]
        return [w - d - before / alpha for w, d, before in zip(weights, update.delta, h)], h

    return Algorithm(
        name="fed_dyn",
        settings={"alpha": alpha},
        server_init=zeros_like,
        client_init=fed_avg().client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=server_update,
        client_state=zeros_like,
    )
