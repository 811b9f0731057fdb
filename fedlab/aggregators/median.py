"""The median of each coordinate.

Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates
Dong Yin, Yudong Chen, Kannan Ramchandran, Peter Bartlett.
ICML 2018. https://arxiv.org/abs/1803.01498
"""

from fedlab.aggregators import _collected
from fedlab.aggregators.aggregator import Aggregator


def median() -> Aggregator:
    """The median of the clients' values, coordinate by coordinate (Yin et al. 2018, Definition 1).

        delta[j] = median_k delta_k[j]

    For an even number of clients this is the mean of the middle two values.

    All clients with a weight above 0 count equally. All updates are stored until the end of the
    round, so memory grows by one update per client of the cohort.

    Returns:
      An `Aggregator`.

    Example:
      >>> median().name
      'median'
    """

    def middle(values):
        num_clients = values.shape[1]
        return values[:, [(num_clients - 1) // 2, num_clients // 2]].mean(axis=1)

    return _collected.collect(
        "median", {}, lambda tensors: [_collected.by_coordinate(rows, middle) for rows in tensors]
    )
