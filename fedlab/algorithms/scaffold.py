"""SCAFFOLD: control variates take the clients' drift out of their gradients.

SCAFFOLD: Stochastic Controlled Averaging for Federated Learning
Sai Praneeth Karimireddy et al. ICML 2020. https://arxiv.org/abs/1910.06378

    each client k of the cohort S:  w_k = w;  for each of its K batches b:
        w_k = client_optimizer(w_k, gradient(w_k, b) - c_k + c)
    c_k' = the mean of the client's K gradients
    w = w - server_learning_rate * sum_k (w - w_k) / |S|
    c = c + sum_k (c_k' - c_k) / N;  each client keeps c_k = c_k'          of N clients in all
"""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.algorithms.algorithm import Algorithm, ClientResult
from fedlab.optimizers import optimizers


class ClientState(NamedTuple):
    weights: Any
    optimizer: Any
    correction: Any
    gradient_sum: Any


def scaffold(*, server_learning_rate=1.0):
    """SCAFFOLD (Karimireddy et al. 2020, Algorithm 1, option II).

    The paper's option II is c_k' = c_k - c + (w - w_k) / (K * client_learning_rate), which for its client optimizer, SGD, is the mean of
    the gradients. Written as that, it holds for any client optimizer. Clients count alike, as in the paper.

    Args:
      server_learning_rate: 0 or more, or a schedule over rounds.

    Returns:
      An `Algorithm` whose clients keep a control variate of the model's size, zero at first. It sends twice what FedAvg sends.

    Example:
      >>> scaffold().name
      'scaffold'
    """
    settings = dict(locals())
    server_optimizer = optimizers.sgd(server_learning_rate)

    def zeros(weights):
        return [tf.zeros_like(w) for w in weights]

    def client_init(task, weights):
        correction = [c - own for c, own in zip(task.broadcast, task.client_state)]
        return ClientState(weights, task.optimizer.init(weights), correction, zeros(weights))

    def client_step(task, weights, state, batch):
        gradients = task.gradients(state.weights, batch)
        corrected = [g + c for g, c in zip(gradients, state.correction)]
        trained, optimizer = task.optimizer.apply(state.weights, state.optimizer, corrected)
        return ClientState(
            trained,
            optimizer,
            state.correction,
            [t + g for t, g in zip(state.gradient_sum, gradients)],
        )

    def client_final(task, weights, state, counts):
        delta = [before - after for before, after in zip(weights, state.weights)]
        mean = [
            tf.math.divide_no_nan(g, tf.cast(counts.num_steps, g.dtype)) for g in state.gradient_sum
        ]
        control = tf.cond(counts.num_steps > 0, lambda: mean, lambda: list(task.client_state))
        change = [after - before for after, before in zip(control, task.client_state)]
        return ClientResult(delta, tf.ones_like(counts.num_examples), extras=change, state=control)

    def server_update(weights, control, update):
        trained, _ = server_optimizer.apply(weights, [], update.delta, update.round_num)
        return trained, [
            c + e / tf.cast(update.total_clients, e.dtype) for c, e in zip(control, update.extras)
        ]

    return Algorithm(
        name="scaffold",
        settings=settings,
        server_init=zeros,
        client_init=client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=server_update,
        broadcast=lambda control: control,
        client_state=zeros,
        extras=zeros,
    )
