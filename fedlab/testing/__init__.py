"""Public checks that hold for every algorithm, aggregator, engine and data set.

They also run on your own.
"""

from fedlab._modules import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "check_aggregator": "fedlab.testing.aggregator",
        "check_algorithm": "fedlab.testing.algorithm",
        "check_dataset": "fedlab.testing.dataset",
        "check_engine": "fedlab.testing.engine",
    },
)
