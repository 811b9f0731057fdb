"""Attacking clients, as wrappers of any algorithm.

    attacked = fl.algorithms.attacks.sign_flipping(fl.algorithms.fed_avg(), attackers=0.3)
    fl.simulate(model, clients, attacked, ...)

`attackers` is a list of client ids or a probability. With a probability, each client attacks in
every round or never; this depends on (seed, client) only, so two wrappers with the same
probability have the same attackers. An attacker first does the honest work and then changes it.

    Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent
    Peva Blanchard, El Mahdi El Mhamdi, Rachid Guerraoui, Julien Stainer.
    NIPS 2017. https://arxiv.org/abs/1703.02757

    Local Model Poisoning Attacks to Byzantine-Robust Federated Learning
    Minghong Fang, Xiaoyu Cao, Jinyuan Jia, Neil Zhenqiang Gong.
    USENIX Security 2020. https://arxiv.org/abs/1911.11815
"""

from collections.abc import Callable, Collection
from typing import Any

from fedlab import _checks, ops
from fedlab.algorithms.algorithm import Algorithm, ClientInfo, StructureError, wrap
from fedlab.ops import Tensor, Weights

Attackers = Collection[str] | float


def sign_flipping(algorithm: Algorithm, attackers: Attackers, scale: float = 1.0) -> Algorithm:
    """Attackers send the negative of their delta (Blanchard et al. 2017).

        delta_k = -scale delta_k

    Args:
      algorithm: an `Algorithm`.
      attackers: client ids, or a probability.
      scale: above 0.

    Returns:
      The `Algorithm`.

    Raises:
      ValueError: a value is out of range.

    Example:
      >>> from fedlab.algorithms import fed_avg
      >>> sign_flipping(fed_avg(), attackers=["mallory"]).name
      'fed_avg under sign_flipping'
    """
    attackers, is_attacker = _membership(attackers)
    scale = _checks.check_number("scale", scale, above=0)

    def flip(client, delta):
        return [ops.where(is_attacker(client), -ops.cast(scale, d.dtype) * d, d) for d in delta]

    return _change_delta(algorithm, "sign_flipping", {"attackers": attackers, "scale": scale}, flip)


def noise(algorithm: Algorithm, attackers: Attackers, stddev: float = 1.0) -> Algorithm:
    """Attackers add Gaussian noise to each value of their delta, with new noise in every round.

        delta_k = delta_k + N(0, stddev^2)

    In Blanchard et al. 2017 they send only noise.

    Args:
      algorithm: an `Algorithm`.
      attackers: client ids, or a probability.
      stddev: standard deviation of the noise, above 0.

    Returns:
      The `Algorithm`.

    Raises:
      ValueError: a value is out of range.

    Example:
      >>> from fedlab.algorithms import fed_avg
      >>> noise(sign_flipping(fed_avg(), 0.1), 0.1, stddev=0.5).settings["noise"]
      {'attackers': 0.1, 'stddev': 0.5}
    """
    attackers, is_attacker = _membership(attackers)
    stddev = _checks.check_number("stddev", stddev, above=0)

    def add(client, delta):
        draws = [
            ops.normal(d.shape, stddev=stddev, seed=ops.fold_in(client.seed, i))
            for i, d in enumerate(delta)
        ]
        return [
            ops.where(is_attacker(client), d + ops.cast(n, d.dtype), d)
            for d, n in zip(delta, draws)
        ]

    return _change_delta(algorithm, "noise", {"attackers": attackers, "stddev": stddev}, add)


def label_flipping(algorithm: Algorithm, attackers: Attackers, num_classes: int) -> Algorithm:
    """Attackers train on wrong labels (Fang et al. 2020, Section 4.1).

        y = num_classes - 1 - y

    Labels that are not class numbers, such as those of padding, stay as they are.

    Args:
      algorithm: an `Algorithm`.
      attackers: client ids, or a probability.
      num_classes: at least 2. Labels are integers from 0.

    Returns:
      The `Algorithm`. It refuses models whose labels are not one column of integers.

    Raises:
      ValueError: a value is out of range.

    Example:
      >>> from fedlab.algorithms import fed_avg
      >>> label_flipping(fed_avg(), ["mallory"], num_classes=10).name
      'fed_avg under label_flipping'
    """
    attackers, is_attacker = _membership(attackers)
    num_classes = _checks.check_int("num_classes", num_classes, 2)

    def flip(task, batch):
        if ops.is_nested(batch.y) or not ops.is_int(batch.y):
            raise StructureError("y: expected one column of class numbers with label_flipping")
        is_class = (batch.y >= 0) & (batch.y < num_classes)
        flipped = num_classes - 1 - batch.y
        return batch._replace(y=ops.where(is_attacker(task.client) & is_class, flipped, batch.y))

    def change(base):
        def client_step(task, weights, state, batch):
            return base.client_step(task, weights, state, flip(task, batch))

        return base._replace(client_step=client_step)

    settings = {"attackers": attackers, "num_classes": num_classes}
    return _renamed(algorithm, "label_flipping", settings, change)


def _change_delta(
    algorithm: Algorithm,
    name: str,
    settings: dict[str, Any],
    change: Callable[[ClientInfo, Weights], Weights],
) -> Algorithm:
    """The algorithm whose clients send `change(client, delta)`."""

    def attacked(base):
        def client_final(task, weights, state, counts):
            result = base.client_final(task, weights, state, counts)
            return result._replace(delta=change(task.client, result.delta))

        return base._replace(client_final=client_final)

    return _renamed(algorithm, name, settings, attacked)


def _renamed(
    algorithm: Algorithm,
    name: str,
    settings: dict[str, Any],
    change: Callable[[Algorithm], Algorithm],
) -> Algorithm:
    # Engines and aggregators read the algorithm's settings, so they stay at the top level.
    def renamed(base):
        return change(base)._replace(
            name=f"{algorithm.name} under {name}", settings={**algorithm.settings, name: settings}
        )

    return wrap(algorithm, renamed)


def _membership(attackers: Any) -> tuple[list[str] | float, Callable[[ClientInfo], Tensor]]:
    """The attackers as a setting, and a function client -> whether it attacks, a bool scalar."""
    if isinstance(attackers, (list, tuple, set, frozenset)) and all(
        isinstance(client_id, str) for client_id in attackers
    ):
        ids = sorted(attackers)
        return ids, lambda client: ops.any(
            ops.equal(client.id, ops.convert_to_tensor(ids, "string"))
        )
    _checks.check_number("attackers", attackers, 0, 1, what="or a list of client ids")
    return attackers, lambda client: ops.uniform([], seed=client.lasting_seed) < attackers
