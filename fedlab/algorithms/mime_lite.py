"""MimeLite: clients step with the server's optimizer statistics, which only the server changes.

Breaking the Centralized Barrier for Cross-Device Federated Learning
Sai Praneeth Karimireddy et al. NeurIPS 2021. https://arxiv.org/abs/2008.03606

    each client k:  w_k = w;  for each batch b:  w_k = optimizer(w_k, gradient(w_k, b)) from statistics s, which stay as they are
    g = sum_k p_k (the mean gradient of client k's examples at w) / sum_k p_k
    w = w - server_learning_rate * sum_k p_k (w - w_k) / sum_k p_k
    s = the optimizer's next statistics after the gradient g
"""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.algorithms import weighting
from fedlab.algorithms.algorithm import Algorithm, ClientResult, Pass, completed
from fedlab.optimizers import optimizers


class GradientSum(NamedTuple):
    """A sum of gradients, and of what each of them counts, a float64 scalar."""

    gradients: Any
    weight: Any


def mime_lite(*, client_weighting="num_examples", server_learning_rate=1.0):
    """MimeLite (Karimireddy et al. 2021, Algorithm 1), with the optimizer that the model was compiled with.

    The paper's momentum is m = (1 - beta) g + beta m, with clients that step by
    (1 - beta) gradient + beta m. Here it is Keras's, g + beta m, whose steps are 1 / (1 - beta) times
    as large: compile with `SGD(rate * (1 - beta), momentum=beta)` for the paper's rate.

    Args:
      client_weighting: as in `fed_avg`.
      server_learning_rate: 0 or more, or a schedule over rounds; the paper's is 1.

    Returns:
      An `Algorithm`. Each round reads the clients' examples twice.

    Example:
      >>> mime_lite().name
      'mime_lite'
    """
    settings = dict(locals())
    weight_of = weighting.get(client_weighting)
    server_step = optimizers.sgd(server_learning_rate)

    def client_init(task, weights):
        return weights

    def client_step(task, weights, state, batch):
        return task.optimizer.apply(state, task.broadcast, task.gradients(state, batch))[0]

    def client_final(task, weights, state, counts):
        return ClientResult(
            [before - after for before, after in zip(weights, state)], weight_of(counts)
        )

    def with_statistics(optimizer):
        def server_update(weights, statistics, update):
            gradients = mean_gradient(update.survey)
            trained, _ = server_step.apply(weights, [], update.delta, update.round_num)
            return trained, optimizer.apply(weights, statistics, gradients, update.round_num)[1]

        return {"server_init": optimizer.init, "server_update": server_update}

    clients = Algorithm(
        name="mime_lite",
        settings=settings,
        server_init=None,
        client_init=client_init,
        client_step=client_step,
        client_final=client_final,
        server_update=None,
        broadcast=lambda statistics: statistics,
        survey=gradient_survey(weight_of),
        weigh=weighting.weigh_of(client_weighting),
    )
    return completed(clients, with_statistics)


def gradient_survey(weight_of):
    """The survey that adds up the clients' mean gradients at the server's weights, each times the client's weight."""

    def zero(weights):
        return GradientSum([tf.zeros_like(w) for w in weights], tf.zeros([], tf.float64))

    def init(task, weights):
        return zero(weights)

    def step(task, weights, state, batch):
        gradients = task.gradients(weights, batch, measure=False)
        total = [
            t + tf.cast(batch.num_examples, g.dtype) * g for t, g in zip(state.gradients, gradients)
        ]
        return GradientSum(total, state.weight + tf.cast(batch.num_examples, tf.float64))

    def final(task, weights, state, counts):
        weight = weight_of(counts)
        gradients = [tf.cast(weight, g.dtype) * g for g in mean_gradient(state)]
        return GradientSum(gradients, tf.cast(weight, tf.float64))

    return Pass(init, step, final, zero)


def mean_gradient(total):
    return [tf.math.divide_no_nan(g, tf.cast(total.weight, g.dtype)) for g in total.gradients]
