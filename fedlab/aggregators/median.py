"""The median, coordinate by coordinate.

Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates
Dong Yin, Yudong Chen, Kannan Ramchandran, Peter Bartlett. ICML 2018. https://arxiv.org/abs/1803.01498
"""

import tensorflow as tf

from fedlab.aggregators import _kept


def median():
    """Each value of the update is the median of the clients' values (Yin et al. 2018, Definition 1); for an even number the mean of two.

    Clients count the same whatever their weight, apart from those of weight 0. All updates are kept until the round's end: memory grows
    with the cohort, by one update a client.

    Example:
      >>> median().name
      'median'
    """

    def middle(values):
        num_clients = values.shape[0]
        values = tf.sort(values, axis=0)
        return (values[(num_clients - 1) // 2] + values[num_clients // 2]) / 2

    return _kept.keep("median", {}, lambda deltas: [middle(d) for d in deltas])
