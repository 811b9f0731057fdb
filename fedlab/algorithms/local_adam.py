"""Local Adam: optimizer states are averaged like weights, and clients continue from the average.

Toward Communication Efficient Adaptive Gradient Method (the second moments)
Xiangyi Chen, Xiaoyun Li, Ping Li. FODS 2020. https://arxiv.org/abs/2109.05109
On the Linear Speedup Analysis of Communication Efficient Momentum SGD for Distributed Non-Convex
Optimization (the momenta, Algorithm 1)
Hao Yu, Rong Jin, Sen Yang. ICML 2019. https://arxiv.org/abs/1905.03817

    each client k:  w_k, s_k = w, s;  for each batch b:  w_k, s_k = optimizer(w_k, s_k, gradient)
    w = w - server_learning_rate * sum_k p_k (w - w_k) / sum_k p_k
    s = sum_k p_k s_k / sum_k p_k

In `fed_avg`, every client starts with a new optimizer state, so the first steps of Adam have the
size of the learning rate whatever the gradient.
"""

from typing import NamedTuple

from fedlab import ops
from fedlab.algorithms.algorithm import Algorithm, completed, unprepared
from fedlab.algorithms.fed_avg import ClientState, fed_avg
from fedlab.algorithms.weighting import Weighting
from fedlab.ops import Tensor
from fedlab.optimizers.optimizer import Rate


class Statistics(NamedTuple):
    """Sums of the optimizer states times the client weight, and of the weights (float64)."""

    total: list[Tensor]
    weight: Tensor


def local_adam(
    *, client_weighting: Weighting = "num_examples", server_learning_rate: Rate = 1.0
) -> Algorithm:
    """Federated averaging of weights and optimizer states (Chen et al. 2020; Yu et al. 2019).

    With one client this is centralized training. The optimizer is the one that the model was
    compiled with: Adam, or any other that has a state. With Adam, a round sends three times as
    much as with `fed_avg`, in both directions. The number of steps is averaged and rounded.

    Args:
      client_weighting: as in `fed_avg`.
      server_learning_rate: at least 0, or a schedule over rounds.

    Returns:
      An `Algorithm`.

    Example:
      >>> local_adam().name
      'local_adam'
    """
    averaging = fed_avg(
        client_weighting=client_weighting, server_learning_rate=server_learning_rate
    )

    def client_init(task, weights):
        return ClientState(weights, task.broadcast)

    def client_final(task, weights, state, counts):
        result = averaging.client_final(task, weights, state, counts)
        total = [
            ops.cast(s, _sum_dtype(s)) * ops.cast(result.weight, _sum_dtype(s))
            for s in ops.flatten(state.optimizer)
        ]
        return result._replace(extras=Statistics(total, ops.cast(result.weight, "float64")))

    def server_update(weights, statistics, update):
        trained, _ = averaging.server_update(weights, [], update)
        total, weight = update.extras
        if not weight > 0:
            return trained, statistics
        averaged = [
            _cast_mean(t / ops.cast(weight, t.dtype), like=s)
            for s, t in zip(ops.flatten(statistics), total)
        ]
        return trained, ops.pack_sequence_as(statistics, averaged)

    def with_statistics(optimizer):
        def extras(weights):
            state = ops.flatten(optimizer.init(weights))
            return Statistics(
                [ops.zeros(s.shape, _sum_dtype(s)) for s in state], ops.zeros([], "float64")
            )

        return {"server_init": optimizer.init, "extras": extras}

    clients = averaging._replace(
        name="local_adam",
        settings={
            "client_weighting": client_weighting,
            "server_learning_rate": server_learning_rate,
        },
        server_init=unprepared,
        client_init=client_init,
        client_final=client_final,
        server_update=server_update,
        broadcast=lambda statistics: statistics,
    )
    return completed(clients, with_statistics)


def _sum_dtype(statistic: Tensor) -> str:
    return statistic.dtype if ops.is_float(statistic) else "float64"


def _cast_mean(mean: Tensor, like: Tensor) -> Tensor:
    return mean if ops.is_float(like) else ops.cast(ops.round(mean), like.dtype)
