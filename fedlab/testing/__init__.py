"""Public checks of what a part of fedlab must hold to, for parts of your own too."""

from fedlab.testing.aggregator import check_aggregator
from fedlab.testing.algorithm import check_algorithm

__all__ = ["check_aggregator", "check_algorithm"]
