"""FedNova: deltas are divided by the number of local steps, which so leave the objective alone.

Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization
Jianyu Wang, Qinghua Liu, Hao Liang, Gauri Joshi, Vincent Poor.
NeurIPS 2020. https://arxiv.org/abs/2007.07481

    each client k as in FedAvg
    a_k = its number of steps (with momentum: the sum of the weights of its steps, see below)
    tau = sum_k p_k a_k / sum_k p_k
    w = w - server_learning_rate * tau * sum_k p_k (w - w_k) / a_k / sum_k p_k
"""

from typing import NamedTuple

from fedlab import ops, optimizers
from fedlab.algorithms import weighting
from fedlab.algorithms.algorithm import Algorithm, ClientResult
from fedlab.algorithms.fed_avg import fed_avg
from fedlab.ops import Tensor
from fedlab.optimizers.optimizer import Rate


class Steps(NamedTuple):
    """Sums over clients, float64 scalars: of weight times steps, and of the weights."""

    weighted: Tensor
    weight: Tensor


def fed_nova(
    *, client_weighting: weighting.Weighting = "num_examples", server_learning_rate: Rate = 1.0
) -> Algorithm:
    """FedNova (Wang et al. 2020, Equation 6), for clients with SGD, with or without momentum rho.

    The gradient of step j of K has the weight (1 - rho ** (K - j + 1)) / (1 - rho) in the delta.
    The sum of these weights is (Section 4.1)

        a = (K - rho (1 - rho ** K) / (1 - rho)) / (1 - rho)          K without momentum

    Args:
      client_weighting: p_k, as in `fed_avg`.
      server_learning_rate: at least 0, or a schedule over rounds.

    Returns:
      An `Algorithm`. It refuses models that are compiled with another optimizer than SGD, or with
      Nesterov momentum.

    Example:
      >>> fed_nova().name
      'fed_nova'
    """
    weight_of = weighting.get(client_weighting)
    server_optimizer = optimizers.sgd(server_learning_rate)
    base = fed_avg(client_weighting=client_weighting)
    settings = {"client_weighting": client_weighting, "server_learning_rate": server_learning_rate}

    def with_momentum(rho):
        def client_final(task, weights, state, counts):
            num_steps = ops.cast(counts.num_steps, "float64")
            a = (num_steps - rho * (1 - rho**num_steps) / (1 - rho)) / (1 - rho)
            delta = [
                ops.divide_no_nan(before - after, ops.cast(a, after.dtype))
                for before, after in zip(weights, state.weights)
            ]
            weight = weight_of(counts)
            exact = ops.cast(weight, "float64")
            return ClientResult(delta, weight, extras=Steps(exact * a, exact))

        return base._replace(
            name="fed_nova",
            settings=settings,
            client_final=client_final,
            server_update=server_update,
            extras=no_steps,
        )

    def no_steps(weights):
        return Steps(ops.zeros([], "float64"), ops.zeros([], "float64"))

    def server_update(weights, state, update):
        tau = ops.divide_no_nan(update.extras.weighted, update.extras.weight)
        delta = [ops.cast(tau, d.dtype) * d for d in update.delta]
        return server_optimizer.apply(weights, state, delta, update.round_num)

    def prepare(model, schedule):
        optimizer = optimizers.of_model(model, schedule)
        if optimizer.name != "sgd" or optimizer.settings.get("nesterov"):
            raise ValueError(
                "optimizer: expected SGD(learning_rate, momentum) without further options with "
                f"fed_nova, got {type(model.optimizer).__name__} with {optimizer.settings}"
            )
        return with_momentum(optimizer.settings["momentum"])

    return with_momentum(0.0)._replace(prepare=prepare)
