"""The mean without the extremes, coordinate by coordinate.

Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates
Dong Yin, Yudong Chen, Kannan Ramchandran, Peter Bartlett. ICML 2018. https://arxiv.org/abs/1803.01498
"""

from fedlab import _checks
from fedlab.aggregators import _kept


def trimmed_mean(trim=0.1):
    """Each value of the update is the mean of the clients' values without the largest and the smallest (Yin et al. 2018, Definition 2).

        delta[j] = the mean of delta_k[j] without the floor(trim n) largest and as many smallest of n clients

    Clients count the same whatever their weight, apart from those of weight 0. All updates are kept until the round's end: memory grows
    with the cohort, by one update a client.

    Args:
      trim: the share of the clients left out at each end, 0 or more, below .5: at least the share of attackers.

    Returns:
      An `Aggregator`.

    Raises:
      ValueError: for a share out of range.

    Example:
      >>> trimmed_mean(0.3).settings
      {'trim': 0.3}
    """
    if not _checks.is_number(trim) or not 0 <= trim < 0.5:
        raise ValueError(f"trim is {trim!r}; allowed: 0 or more, below 0.5.")

    def inner_mean(values):
        num_clients = values.shape[1]
        first = _kept.num_of(trim, num_clients)
        return values[:, first : num_clients - first].mean(axis=1)

    return _kept.keep(
        "trimmed_mean",
        {"trim": trim},
        lambda tensors: [_kept.by_coordinate(rows, inner_mean) for rows in tensors],
    )
