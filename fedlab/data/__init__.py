"""Clients' data: columns by client, partitions, batches, cohorts, and how clients fare."""

from fedlab.data import partitions
from fedlab.data.batching import Batching
from fedlab.data.client_data import ClientData
from fedlab.data.client_stats import ClientStats
from fedlab.data.conditions import Work, dropouts, stragglers
from fedlab.data.sampling import adaptive, fixed, highest_loss, poisson, uniform, weighted

__all__ = [
    "Batching",
    "ClientData",
    "ClientStats",
    "Work",
    "adaptive",
    "dropouts",
    "fixed",
    "highest_loss",
    "partitions",
    "poisson",
    "stragglers",
    "uniform",
    "weighted",
]
