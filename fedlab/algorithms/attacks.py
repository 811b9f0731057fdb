"""Clients that attack, as wrappers of any algorithm. Each returns the algorithm with some of its clients turned.

    fl.simulate(model, clients, fl.algorithms.attacks.sign_flipping(fl.algorithms.fed_avg(), attackers=0.3), ...)

`attackers` is a list of client ids, or a share: then each client is one with that probability, in every round, as (seed, client) decides;
of two wrappers of the same share, the same clients are. A deviation is that of the client's own honest work, which it does first.

    Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent
    Peva Blanchard, El Mahdi El Mhamdi, Rachid Guerraoui, Julien Stainer. NIPS 2017. https://arxiv.org/abs/1703.02757

    Local Model Poisoning Attacks to Byzantine-Robust Federated Learning
    Minghong Fang, Xiaoyu Cao, Jinyuan Jia, Neil Zhenqiang Gong. USENIX Security 2020. https://arxiv.org/abs/1911.11815
"""

import tensorflow as tf

from fedlab import _checks
from fedlab.algorithms.algorithm import StructureError, wrap


def sign_flipping(algorithm, attackers, scale=1.0):
    """Attackers send their update turned round (as those of Blanchard et al. 2017, here each on its own data).

        delta_k = -scale delta_k

    Args:
      algorithm: an `Algorithm`.
      attackers: client ids, or a share from 0 to 1.
      scale: above 0.

    Returns:
      The `Algorithm`.

    Raises:
      ValueError: for a value out of range.

    Example:
      >>> from fedlab.algorithms import fed_avg
      >>> sign_flipping(fed_avg(), attackers=["mallory"]).name
      'fed_avg under sign_flipping'
    """
    attackers, turned = _membership(attackers)
    scale = _positive("scale", scale)

    def flip(client, delta):
        return [tf.where(turned(client), -tf.cast(scale, d.dtype) * d, d) for d in delta]

    return _send(algorithm, "sign_flipping", {"attackers": attackers, "scale": scale}, flip)


def noise(algorithm, attackers, stddev=1.0):
    """Attackers add Gaussian noise to each value of their update, new in each round (in Blanchard et al. 2017 they send noise alone).

        delta_k = delta_k + N(0, stddev^2)

    Args:
      algorithm: an `Algorithm`.
      attackers: client ids, or a share from 0 to 1.
      stddev: of the noise, above 0.

    Returns:
      The `Algorithm`.

    Raises:
      ValueError: for a value out of range.

    Example:
      >>> from fedlab.algorithms import fed_avg
      >>> noise(sign_flipping(fed_avg(), 0.1), 0.1, stddev=0.5).settings["noise"]
      {'attackers': 0.1, 'stddev': 0.5}
    """
    attackers, turned = _membership(attackers)
    stddev = _positive("stddev", stddev)

    def add(client, delta):
        draws = [
            tf.random.stateless_normal(d.shape, tf.random.fold_in(client.seed, i), stddev=stddev)
            for i, d in enumerate(delta)
        ]
        return [tf.where(turned(client), d + tf.cast(n, d.dtype), d) for d, n in zip(delta, draws)]

    return _send(algorithm, "noise", {"attackers": attackers, "stddev": stddev}, add)


def label_flipping(algorithm, attackers, num_classes):
    """Attackers train on other labels (Fang et al. 2020, section 4.1).

        y = num_classes - 1 - y,    labels outside of the classes stay

    Args:
      algorithm: an `Algorithm`.
      attackers: client ids, or a share from 0 to 1.
      num_classes: 2 or more; labels are whole numbers from 0.

    Returns:
      The `Algorithm`. A model whose labels are not one column of whole numbers is refused when its graph is made.

    Raises:
      ValueError: for a value out of range.

    Example:
      >>> from fedlab.algorithms import fed_avg
      >>> label_flipping(fed_avg(), ["mallory"], num_classes=10).name
      'fed_avg under label_flipping'
    """
    attackers, turned = _membership(attackers)
    num_classes = _checks.check_int("num_classes", num_classes, 2)

    def flip(task, batch):
        if tf.nest.is_nested(batch.y) or not batch.y.dtype.is_integer:
            raise StructureError(
                "the labels are not whole numbers; allowed with label_flipping: one column of class numbers."
            )
        is_class = (batch.y >= 0) & (batch.y < num_classes)
        return batch._replace(
            y=tf.where(turned(task.client) & is_class, num_classes - 1 - batch.y, batch.y)
        )

    def change(base):
        def client_step(task, *arguments):
            *others, batch = arguments
            return base.client_step(task, *others, flip(task, batch))

        return base._replace(client_step=client_step)

    return _renamed(
        algorithm, "label_flipping", {"attackers": attackers, "num_classes": num_classes}, change
    )


def _send(algorithm, name, settings, change):
    """The algorithm whose clients send `change(client, delta)`."""

    def attacked(base):
        def client_final(task, *arguments):
            result = base.client_final(task, *arguments)
            return result._replace(delta=change(task.client, result.delta))

        return base._replace(client_final=client_final)

    return _renamed(algorithm, name, settings, attacked)


def _renamed(algorithm, name, settings, change):
    # The algorithm's own settings stay where those who read them look.
    def renamed(base):
        return change(base)._replace(
            name=f"{algorithm.name} under {name}", settings={**algorithm.settings, name: settings}
        )

    return wrap(algorithm, renamed)


def _membership(attackers):
    """The attackers as a setting, and the function client -> bool scalar that says whether it is one."""
    if isinstance(attackers, (list, tuple, set, frozenset)) and all(
        isinstance(client_id, str) for client_id in attackers
    ):
        ids = sorted(attackers)
        return ids, lambda client: tf.reduce_any(tf.equal(client.id, tf.constant(ids, tf.string)))
    _checks.check_number("attackers", attackers, 0, 1, what="or a list of client ids")
    return attackers, lambda client: tf.random.stateless_uniform(
        [], client.lasting_seed
    ) < attackers


def _positive(name, value):
    if not _checks.is_number(value) or not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value!r}; allowed: a number above 0.")
    return float(value)
