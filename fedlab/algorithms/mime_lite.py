"""MimeLite: clients use the server's optimizer state, which only the server changes.

Breaking the Centralized Barrier for Cross-Device Federated Learning
Sai Praneeth Karimireddy et al. NeurIPS 2021. https://arxiv.org/abs/2008.03606

    each client k:  w_k = w;  for each batch b:
        w_k = optimizer(w_k, gradient(w_k, b)) with the state s, which does not change
    g = sum_k p_k (the full gradient of client k's examples at w) / sum_k p_k
    w = w - server_learning_rate * sum_k p_k (w - w_k) / sum_k p_k
    s = the optimizer's next state after the gradient g
"""

from collections.abc import Callable

from fedlab import ops, optimizers
from fedlab.algorithms import weighting
from fedlab.algorithms.algorithm import (
    Algorithm,
    ClientResult,
    Counts,
    Pass,
    completed,
    unprepared,
    weights_delta,
)
from fedlab.algorithms.fed_sgd import GradientSum, add_gradients, mean_gradient
from fedlab.ops import Tensor
from fedlab.optimizers.optimizer import Rate, zeros_like


def mime_lite(
    *, client_weighting: weighting.Weighting = "num_examples", server_learning_rate: Rate = 1.0
) -> Algorithm:
    """MimeLite (Karimireddy et al. 2021, Algorithm 1), with the model's compiled optimizer.

    The paper's momentum is m = (1 - beta) g + beta m, and its clients step by
    (1 - beta) gradient + beta m. Keras's momentum, used here, is g + beta m, whose steps are
    1 / (1 - beta) times as large. Compile with `SGD(rate * (1 - beta), momentum=beta)` for the
    paper's rate.

    Args:
      client_weighting: as in `fed_avg`.
      server_learning_rate: at least 0, or a schedule over rounds. The paper uses 1.

    Returns:
      An `Algorithm`. Each round reads the clients' examples twice.

    Example:
      >>> mime_lite().name
      'mime_lite'
    """
    weight_of = weighting.get(client_weighting)
    server_step = optimizers.sgd(server_learning_rate)

    def client_init(task, weights):
        return weights

    def client_step(task, weights, state, batch):
        return task.optimizer.apply(state, task.broadcast, task.gradients(state, batch))[0]

    def client_final(task, weights, state, counts):
        return ClientResult(weights_delta(weights, state), weight_of(counts))

    def with_statistics(optimizer):
        def server_update(weights, statistics, update):
            gradients = mean_gradient(update.survey)
            trained, _ = server_step.apply(weights, [], update.delta, update.round_num)
            return trained, optimizer.apply(weights, statistics, gradients, update.round_num)[1]

        return {"server_init": optimizer.init, "server_update": server_update}

    clients = Algorithm(
        name="mime_lite",
        settings={
            "client_weighting": client_weighting,
            "server_learning_rate": server_learning_rate,
        },
        server_init=unprepared,
        client_init=client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=unprepared,
        broadcast=lambda statistics: statistics,
        survey=full_gradient(weight_of),
        weigh=weighting.weigh_of(client_weighting),
    )
    return completed(clients, with_statistics)


def full_gradient(weight_of: Callable[[Counts], Tensor]) -> Pass:
    """The survey that sums the clients' full gradients, each times the client weight."""

    def zero(weights):
        return GradientSum(zeros_like(weights), ops.zeros([], "float64"))

    def init(task, weights):
        return zero(weights)

    def step(task, weights, state, batch):
        return add_gradients(state, task.gradients(weights, batch, measure=False), batch)

    def final(task, weights, state, counts):
        weight = weight_of(counts)
        gradients = [ops.cast(weight, g.dtype) * g for g in mean_gradient(state)]
        return GradientSum(gradients, ops.cast(weight, "float64"))

    return Pass(init, step, final, zero)
