"""SCAFFOLD: control variates correct the clients' gradients for client drift.

SCAFFOLD: Stochastic Controlled Averaging for Federated Learning
Sai Praneeth Karimireddy et al. ICML 2020. https://arxiv.org/abs/1910.06378

    each client k of the cohort S:  w_k = w;  for each of its K batches b:
        w_k = client_optimizer(w_k, gradient(w_k, b) - c_k + c)
    c_k' = the mean of the client's K gradients
    w = w - server_learning_rate * sum_k (w - w_k) / |S|
    c = c + sum_k (c_k' - c_k) / N;  client state: c_k = c_k'          of N clients in all
"""

from typing import NamedTuple

from fedlab import ops, optimizers
from fedlab.algorithms.algorithm import Algorithm, ClientResult, weights_delta
from fedlab.ops import Nest, Weights
from fedlab.optimizers.optimizer import Rate, zeros_like


class ClientState(NamedTuple):
    """Weights, optimizer state, the correction c - c_k, and the sum of the gradients so far."""

    weights: Weights
    optimizer: Nest
    correction: Weights
    gradient_sum: Weights


def scaffold(*, server_learning_rate: Rate = 1.0) -> Algorithm:
    """SCAFFOLD (Karimireddy et al. 2020, Algorithm 1, option II).

    The paper's option II is c_k' = c_k - c + (w - w_k) / (K * client_learning_rate). For SGD, the
    paper's client optimizer, this is the mean of the gradients, which is defined for every client
    optimizer. All clients have the same weight, as in the paper.

    Args:
      server_learning_rate: at least 0, or a schedule over rounds.

    Returns:
      An `Algorithm`. The client state is a control variate of the model's size, initially zero.
      Clients and server send twice as much as in FedAvg.

    Example:
      >>> scaffold().name
      'scaffold'
    """
    server_optimizer = optimizers.sgd(server_learning_rate)

    def client_init(task, weights):
        correction = [c - c_k for c, c_k in zip(task.broadcast, task.client_state)]
        return ClientState(weights, task.optimizer.init(weights), correction, zeros_like(weights))

    def client_step(task, weights, state, batch):
        gradients = task.gradients(state.weights, batch)
        corrected = [g + c for g, c in zip(gradients, state.correction)]
        trained, optimizer = task.optimizer.apply(state.weights, state.optimizer, corrected)
        gradient_sum = [t + g for t, g in zip(state.gradient_sum, gradients)]
        return ClientState(trained, optimizer, state.correction, gradient_sum)

    def client_final(task, weights, state, counts):
        mean = [
            ops.divide_no_nan(g, ops.cast(counts.num_steps, g.dtype)) for g in state.gradient_sum
        ]
        control = ops.cond(counts.num_steps > 0, lambda: mean, lambda: list(task.client_state))
        change = [after - before for after, before in zip(control, task.client_state)]
        delta = weights_delta(weights, state.weights)
        return ClientResult(delta, ops.ones_like(counts.num_examples), extras=change, state=control)

    def server_update(weights, control, update):
        trained, _ = server_optimizer.apply(weights, [], update.delta, update.round_num)
        return trained, [
            c + e / ops.cast(update.total_clients, e.dtype) for c, e in zip(control, update.extras)
        ]

    return Algorithm(
        name="scaffold",
        settings={"server_learning_rate": server_learning_rate},
        server_init=zeros_like,
        client_init=client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=server_update,
        broadcast=lambda control: control,
        client_state=zeros_like,
        extras=zeros_like,
    )
