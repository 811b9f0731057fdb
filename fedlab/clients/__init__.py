"""Clients' data: columns by client, partitions, batches, cohorts, and how clients fare."""

from fedlab.clients import partitioners
from fedlab.clients.availability import Work, dropouts, stragglers
from fedlab.clients.batching import Batching
from fedlab.clients.client_data import ClientData
from fedlab.clients.client_stats import ClientStats
from fedlab.clients.sampling import adaptive, fixed, highest_loss, poisson, uniform, weighted

__all__ = [
    "Batching",
    "ClientData",
    "ClientStats",
    "Work",
    "adaptive",
    "dropouts",
    "fixed",
    "highest_loss",
    "partitioners",
    "poisson",
    "stragglers",
    "uniform",
    "weighted",
]
