"""The mean of each coordinate without its extreme values.

Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates
Dong Yin, Yudong Chen, Kannan Ramchandran, Peter Bartlett.
ICML 2018. https://arxiv.org/abs/1803.01498
"""

from fedlab import _checks
from fedlab.aggregators import _collected
from fedlab.aggregators.aggregator import Aggregator


def trimmed_mean(trim: float = 0.1) -> Aggregator:
    """The mean of the clients' values without the largest and smallest ones, by coordinate.

        delta[j] = mean_k delta_k[j] without the floor(trim n) largest and smallest of n values

    See Yin et al. 2018, Definition 2.

    All clients with a weight above 0 count equally. All updates are stored until the end of the
    round, so memory grows by one update per client of the cohort.

    Args:
      trim: the fraction of clients excluded at each end, at least 0 and below 0.5. It should be at
        least the fraction of attackers.

    Returns:
      An `Aggregator`.

    Raises:
      ValueError: `trim` is out of range.

    Example:
      >>> trimmed_mean(0.3).settings
      {'trim': 0.3}
    """
    _checks.check_number("trim", trim, 0, below=0.5)

    def inner_mean(values):
        num_clients = values.shape[1]
        first = _collected.num_of(trim, num_clients)
        return values[:, first : num_clients - first].mean(axis=1)

    return _collected.collect(
        "trimmed_mean",
        {"trim": trim},
        lambda tensors: [_collected.by_coordinate(rows, inner_mean) for rows in tensors],
    )
