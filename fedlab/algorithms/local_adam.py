"""Local Adam: clients go on with the optimizer's statistics of the last round, averaged as their weights are.

Toward Communication Efficient Adaptive Gradient Method
Xiangyi Chen, Xiaoyun Li, Ping Li. FODS 2020. https://arxiv.org/abs/2109.05109 (the second moments)
On the Linear Speedup Analysis of Communication Efficient Momentum SGD for Distributed Non-Convex Optimization
Hao Yu, Rong Jin, Sen Yang. ICML 2019. https://arxiv.org/abs/1905.03817, Algorithm 1 (the momenta)

    each client k:  w_k, s_k = w, s;  for each batch b:  w_k, s_k = optimizer(w_k, s_k, gradient(w_k, b))
    w = w - server_learning_rate * sum_k p_k (w - w_k) / sum_k p_k
    s = sum_k p_k s_k / sum_k p_k

In `fed_avg`, s starts anew at every client, so that Adam's first steps are as large as the learning rate whatever the gradient.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from fedlab.algorithms.algorithm import completed
from fedlab.algorithms.fed_avg import ClientState, fed_avg


class Statistics(NamedTuple):
    """Sums of the optimizer's statistics times the client's weight, and of these weights (float64)."""

    total: Any
    weight: Any


def local_adam(*, client_weighting="num_examples", server_learning_rate=1.0):
    """Federated averaging of weights and of the client optimizer's statistics (Chen et al. 2020; Yu et al. 2019, Algorithm 1).

    With one client it is central training without a break. The optimizer is the one that the model was compiled with: Adam, or any other
    that keeps statistics. Each of Adam's rounds sends three times what one of `fed_avg` does, both ways. A count of steps is averaged and
    rounded.

    Args:
      client_weighting: as in `fed_avg`.
      server_learning_rate: 0 or more, or a schedule over rounds.

    Returns:
      An `Algorithm`.

    Example:
      >>> local_adam().name
      'local_adam'
    """
    settings = dict(locals())
    averaging = fed_avg(
        client_weighting=client_weighting, server_learning_rate=server_learning_rate
    )

    def client_init(task, weights):
        return ClientState(weights, task.broadcast)

    def client_final(task, weights, state, counts):
        result = averaging.client_final(task, weights, state, counts)
        total = [
            tf.cast(s, _sum_dtype(s)) * tf.cast(result.weight, _sum_dtype(s))
            for s in tf.nest.flatten(state.optimizer)
        ]
        return result._replace(extras=Statistics(total, tf.cast(result.weight, tf.float64)))

    def server_update(weights, statistics, update):
        trained, _ = averaging.server_update(weights, [], update)
        total, weight = update.extras
        if not weight > 0:
            return trained, statistics
        averaged = [
            _as(s, t / tf.cast(weight, t.dtype)) for s, t in zip(tf.nest.flatten(statistics), total)
        ]
        return trained, tf.nest.pack_sequence_as(statistics, averaged)

    def with_statistics(optimizer):
        def extras(weights):
            return Statistics(
                [
                    tf.zeros(s.shape, _sum_dtype(s))
                    for s in tf.nest.flatten(optimizer.init(weights))
                ],
                tf.zeros([], tf.float64),
            )

        return {"server_init": optimizer.init, "extras": extras}

    clients = averaging._replace(
        name="local_adam",
        settings=settings,
        server_init=None,
        client_init=client_init,
        client_final=client_final,
        server_update=server_update,
        broadcast=lambda statistics: statistics,
    )
    return completed(clients, with_statistics)


def _sum_dtype(statistic):
    return statistic.dtype if statistic.dtype.is_floating else tf.float64


def _as(statistic, mean):
    return mean if statistic.dtype.is_floating else tf.cast(tf.round(mean), statistic.dtype)
