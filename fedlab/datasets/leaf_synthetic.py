"""LEAF's synthetic data: a linear model per client, of one or more clusters of models.

Features after `load`:

  x: [N, 60] float32
  y: [N] int32, the class, 0 to 4

Sources:

  auto: generated, with the random numbers of LEAF's code: 1,000 clients and 107,553
    examples, as published. No file is read.
  synthetic: `synthetic()` with its defaults: the same process, whose clients are
    functions of (seed, number of the client).

Each client k belongs to a cluster c, and the classes of its examples to a model W_k:

  Q ~ N(0, 1), [61, 5, number of clusters]           m_c ~ N(N(0, 1), 1), [number of clusters]
  n_k = min(5 + floor(lognormal(3, 2)), 1000) examples
  v_k ~ N(N(0, 1), 1), [60]                           x ~ N(v_k, diag(j^-1.2))
  W_k = Q u_k, with u_k ~ N(m_c, 0.1^2)               y = argmax([1, x] W_k + N(0, 0.1^2))

Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings", appendix A. LEAF's split: the
first 60 % of each client's examples, at least one, are for training here (LEAF draws them at
random; a client's examples are in no order). The model is
`fedlab.models.logistic_regression(60, 5)`.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _locate

SOURCES = ("auto", "synthetic")
SEED = 931231
"""The seed of LEAF's code."""


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    num_clients: int = 1000,
    num_classes: int = 5,
    num_features: int = 60,
    cluster_probabilities: Sequence[float] = (1.0,),
    train_fraction: float = 0.6,
    seed: int = SEED,
) -> tuple[ClientData, ClientData]:
    """Generates the data as LEAF's code does; with its seed, the same numbers.

    Args:
      source: "auto" or "synthetic"; see the module.
      path: None, since no file is read.
      num_clients, num_classes, num_features: 1 or more.
      cluster_probabilities: the probability of each cluster; their sum is 1.
      train_fraction: the share of a client's examples for training, in (0, 1).
      seed: 0 to 2^32 - 1.

    Returns:
      (train, test), with the same clients "0", "1" and so on.

    Raises:
      ValueError: a setting is out of range.

    Example:
      >>> train, test = load(num_clients=5)
      >>> train["0"]["x"].shape[1], len(test)
      (60, 5)
    """
    _locate.check_source(source, SOURCES, None)
    if path is not None:
        raise ValueError(f"path={str(path)!r}: expected None, since leaf_synthetic is generated")
    if source == "synthetic":
        return synthetic()
    p = _check(num_clients, num_classes, num_features, cluster_probabilities, train_fraction)
    _checks.check_int("seed", seed, 0, 2**32 - 1)
    rng = np.random.RandomState(seed)
    sizes = np.minimum(rng.lognormal(3, 2, num_clients).astype(np.int64) + 5, 1000)
    rng = np.random.RandomState(seed)  # LEAF's code seeds again
    model = _Model(rng, num_classes, num_features, p)
    made = {str(k): model.client(rng, int(n)) for k, n in enumerate(sizes)}
    return _split(made, train_fraction)


def synthetic(
    num_clients: int = 10,
    seed: int = 0,
    *,
    num_classes: int = 5,
    num_features: int = 60,
    cluster_probabilities: Sequence[float] = (1.0,),
    train_fraction: float = 0.6,
) -> tuple[ClientData, ClientData]:
    """Generates clients by the same process, each a function of the seed and its number.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i), and Q and m of seed.
      num_classes, num_features, cluster_probabilities, train_fraction: as in `load`.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=3, num_features=4)
      >>> train["2"]["x"].shape[1], train.client_ids == test.client_ids
      (4, True)
    """
    p = _check(num_clients, num_classes, num_features, cluster_probabilities, train_fraction)
    model = _Model(seeding.generator(seed, "leaf_synthetic model"), num_classes, num_features, p)
    made = {}
    for k in range(num_clients):
        rng = seeding.generator(seed, "leaf_synthetic client", k)
        made[str(k)] = model.client(rng, int(min(rng.lognormal(3, 2) + 5, 1000)))
    return _split(made, train_fraction)


class _Model:
    """What all clients share: Q, and the mean of each cluster.

    Args:
      rng: a generator of either interface of NumPy. The order of the draws is that of
        LEAF's code.
    """

    def __init__(self, rng: Any, num_classes: int, num_features: int, p: np.ndarray):
        self.p = p
        self.q = rng.normal(0, 1, [num_features + 1, num_classes, len(p)])
        self.deviations = np.arange(1, num_features + 1) ** -0.6
        self.means = [rng.normal(rng.normal(0, 1), 1, len(p)) for _ in p]

    def client(self, rng: Any, num_examples: int) -> dict[str, np.ndarray]:
        """Returns the examples of the next client."""
        mean = self.means[rng.choice(len(self.p), p=self.p)]
        num_features = len(self.deviations)
        center = rng.normal(rng.normal(0, 1), 1, num_features)
        # What multivariate_normal draws, without the decomposition of a diagonal matrix.
        x = rng.standard_normal([num_examples, num_features]) * self.deviations + center
        w = self.q @ rng.normal(mean, 0.1, len(mean))
        scores = w[0] + x @ w[1:] + rng.normal(0, 0.1, [num_examples, w.shape[1]])
        return {"x": x.astype(np.float32), "y": scores.argmax(axis=1).astype(np.int32)}


def _check(
    num_clients: int,
    num_classes: int,
    num_features: int,
    cluster_probabilities: Sequence[float],
    train_fraction: float,
) -> np.ndarray:
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_classes", num_classes)
    _checks.check_int("num_features", num_features)
    _checks.check_number("train_fraction", train_fraction, above=0, below=1)
    try:
        p = np.asarray(cluster_probabilities, np.float64)
    except (TypeError, ValueError):
        p = np.zeros(0)
    if p.ndim != 1 or not len(p) or not (p >= 0).all() or abs(p.sum() - 1) > 1e-8:
        expected = "numbers of at least 0 whose sum is 1, such as (0.5, 0.5)"
        raise _checks.value_error("cluster_probabilities", cluster_probabilities, expected)
    return p


def _split(
    made: dict[str, dict[str, np.ndarray]], train_fraction: float
) -> tuple[ClientData, ClientData]:
    train, test = {}, {}
    for client_id, columns in made.items():
        n = len(columns["y"])
        num_train = min(max(1, int(train_fraction * n)), n - 1)
        train[client_id] = {name: column[:num_train] for name, column in columns.items()}
        test[client_id] = {name: column[num_train:] for name, column in columns.items()}
    return ClientData.from_dict(train), ClientData.from_dict(test)
