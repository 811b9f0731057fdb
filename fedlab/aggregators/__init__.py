"""Aggregators, which combine the clients' updates. They compose: `clipped(quantized(mean()))`."""

from fedlab.aggregators.aggregator import Aggregator
from fedlab.aggregators.clipped import clipped
from fedlab.aggregators.differentially_private import differentially_private
from fedlab.aggregators.krum import krum
from fedlab.aggregators.mean import mean
from fedlab.aggregators.median import median
from fedlab.aggregators.norms import adaptive
from fedlab.aggregators.quantized import quantized
from fedlab.aggregators.trimmed_mean import trimmed_mean
from fedlab.aggregators.zeroed import zeroed

__all__ = [
    "Aggregator",
    "adaptive",
    "clipped",
    "differentially_private",
    "krum",
    "mean",
    "median",
    "quantized",
    "trimmed_mean",
    "zeroed",
]
