"""Aggregators: how the clients' updates become one."""

from fedlab.aggregators.aggregator import Aggregator
from fedlab.aggregators.mean import mean

__all__ = ["Aggregator", "mean"]
