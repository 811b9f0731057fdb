"""The median, coordinate by coordinate.

Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates
Dong Yin, Yudong Chen, Kannan Ramchandran, Peter Bartlett. ICML 2018. https://arxiv.org/abs/1803.01498
"""

from fedlab.aggregators import _kept


def median():
    """Each value of the update is the median of the clients' values (Yin et al. 2018, Definition 1).

        delta[j] = median_k delta_k[j],    for an even number of clients the mean of the middle two

    Clients count the same whatever their weight, apart from those of weight 0. All updates are kept until the round's end: memory grows
    with the cohort, by one update a client.

    Returns:
      An `Aggregator`.

    Example:
      >>> median().name
      'median'
    """

    def middle(values):
        num_clients = values.shape[1]
        return values[:, [(num_clients - 1) // 2, num_clients // 2]].mean(axis=1)

    return _kept.keep(
        "median", {}, lambda tensors: [_kept.by_coordinate(rows, middle) for rows in tensors]
    )
