"""FedNova: updates are divided by how far the client went, so that clients with more steps do not count more.

Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization
Jianyu Wang, Qinghua Liu, Hao Liang, Gauri Joshi, Vincent Poor. NeurIPS 2020. https://arxiv.org/abs/2007.07481

    each client k as in FedAvg;  a_k = its number of steps (with momentum rho: the sum of its steps' weights, below)
    tau = sum_k p_k a_k / sum_k p_k
    w = w - server_learning_rate * tau * sum_k p_k (w - w_k) / a_k / sum_k p_k
"""

from typing import NamedTuple

import tensorflow as tf

from fedlab.algorithms import weighting
from fedlab.algorithms.algorithm import ClientResult
from fedlab.algorithms.fed_avg import fed_avg
from fedlab.optimizers import optimizers


class Steps(NamedTuple):
    """Sums over clients, float64 scalars."""

    weighted: tf.Tensor
    weight: tf.Tensor


def fed_nova(*, client_weighting="num_examples", server_learning_rate=1.0):
    """FedNova (Wang et al. 2020, Equation 6), for clients with SGD, with or without momentum rho.

    A gradient of step j of K goes into the result with the weight (1 - rho ** (K - j + 1)) / (1 - rho), so that their sum is

        a = (K - rho (1 - rho ** K) / (1 - rho)) / (1 - rho)          (Section 4.1; K without momentum)

    Args:
      client_weighting: p_k, as in `fed_avg`.
      server_learning_rate: 0 or more, or a schedule over rounds.

    Returns:
      An `Algorithm`. It refuses models compiled with another optimizer than SGD, or with Nesterov's momentum.

    Example:
      >>> fed_nova().name
      'fed_nova'
    """
    settings = dict(locals())
    weight_of = weighting.get(client_weighting)
    server_optimizer = optimizers.sgd(server_learning_rate)
    base = fed_avg(client_weighting=client_weighting)

    def with_momentum(rho):
        def client_final(task, weights, state, counts):
            num_steps = tf.cast(counts.num_steps, tf.float64)
            a = (num_steps - rho * (1 - rho**num_steps) / (1 - rho)) / (1 - rho)
            delta = [
                tf.math.divide_no_nan(before - after, tf.cast(a, after.dtype))
                for before, after in zip(weights, state.weights)
            ]
            weight = weight_of(counts)
            exact = tf.cast(weight, tf.float64)
            return ClientResult(delta, weight, extras=Steps(exact * a, exact))

        return base._replace(
            name="fed_nova",
            settings=settings,
            client_final=client_final,
            server_update=server_update,
            extras=no_steps,
        )

    def no_steps(weights):
        return Steps(tf.zeros([], tf.float64), tf.zeros([], tf.float64))

    def server_update(weights, state, update):
        tau = tf.math.divide_no_nan(update.extras.weighted, update.extras.weight)
        delta = [tf.cast(tau, d.dtype) * d for d in update.delta]
        return server_optimizer.apply(weights, state, delta, update.round_num)

    def prepare(model, schedule):
        optimizer = optimizers.of_model(model, schedule)
        if optimizer.name != "sgd" or optimizer.settings.get("nesterov"):
            raise ValueError(
                f"fed_nova cannot tell how far a client goes with {type(model.optimizer).__name__}, options {optimizer.settings}; "
                "allowed: models compiled with tf.keras.optimizers.SGD(learning_rate, momentum) and no further option."
            )
        return with_momentum(optimizer.settings["momentum"])

    return with_momentum(0.0)._replace(prepare=prepare)
