"""Feature skew: clusters of embeddings."""

from typing import Any

import numpy as np

from fedlab import _checks, _extras
from fedlab.clients import seeding
from fedlab.clients.partitioners._method import Partition, method
from fedlab.clients.partitioners.dirichlet import dirichlet


@method("x")
def clusters(
    embeddings: Any,
    num_clients: int,
    alpha: float,
    seed: int,
    *,
    num_clusters: int = 10,
    min_examples: int = 1,
) -> Partition:
    """Skewed features: clusters of embeddings are divided by proportions from a Dirichlet.

    `cluster_labels` finds the clusters, and `dirichlet` divides the examples of each. For
    one client per cluster, use `natural(cluster_labels(...))`.

    Guarantees: those of `dirichlet`, for the cluster of an example as its label.

    Lin et al. 2022, "FedNLP: Benchmarking Federated Learning Methods for Natural Language
    Processing Tasks", section 3.2, for data without class labels.

    Args:
      embeddings: [n, ...] numbers, such as the outputs of a pretrained encoder. Without
        NaN.
      num_clients, alpha, seed, min_examples: as in `dirichlet`.
      num_clusters: 1 to n.

    Returns:
      "client_<i>" -> rows.

    Raises:
      ValueError: a value out of range.
      ModuleNotFoundError: scikit-learn is not installed.

    Example:
      >>> near_zero_or_one = np.arange(40)[:, np.newaxis] % 2 + np.arange(40)[:, np.newaxis] / 1e3
      >>> partition = clusters(near_zero_or_one, 2, alpha=0.001, seed=0, num_clusters=2,
      ...                      min_examples=0)
      >>> sum(map(len, partition.values()))
      40
    """
    found = cluster_labels(embeddings, num_clusters, seed)
    return dirichlet(found, num_clients, alpha, seed, min_examples=min_examples)


def cluster_labels(embeddings: Any, num_clusters: int, seed: int) -> np.ndarray:
    """Returns int64 [n], the k-means cluster of each embedding, from 0 to num_clusters - 1.

    It runs in one thread: with several, the order of sums would vary, and the cluster of
    an embedding on a border with it.

    Args:
      embeddings: [n, ...] numbers without NaN.
      num_clusters: 1 to n.
      seed: 0 or more.

    Raises:
      ValueError: a value out of range.
      ModuleNotFoundError: scikit-learn is not installed.

    Example:
      >>> found = cluster_labels([[0.0], [5.0], [0.1], [5.1]], num_clusters=2, seed=0)
      >>> bool(found[0] == found[2] != found[1] == found[3])
      True
    """
    try:
        array = np.asarray(embeddings)
    except ValueError:
        array = np.asarray(None)
    if array.ndim < 2 or not len(array) or array.dtype.kind not in "biuf":
        shape = list(array.shape)
        raise ValueError(
            f"embeddings has shape {shape} and dtype {array.dtype}: expected numbers [n, ...]"
        )
    array = array.reshape(len(array), -1)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise ValueError(f"embeddings[{row}] is not finite: expected numbers; remove such examples")
    _checks.check_int("num_clusters", num_clusters, 1, len(array), "the number of examples")
    rng = seeding.generator(seed, "partition", "clusters")
    try:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        raise _extras.error("clusters need", "sklearn") from None
    with threadpool_limits(1):
        means = KMeans(num_clusters, n_init=1, random_state=int(rng.integers(2**31)))
        return means.fit_predict(array).astype(np.int64)
