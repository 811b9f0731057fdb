"""The data of clients, partitions, batches, cohort sampling and availability."""

from fedlab.clients import partitioners
from fedlab.clients.availability import Participation, dropouts, stragglers
from fedlab.clients.batching import Batching
from fedlab.clients.client_data import ClientData
from fedlab.clients.client_stats import ClientStats
from fedlab.clients.sampling import adaptive, fixed, highest_loss, poisson, uniform, weighted

__all__ = [
    "Batching",
    "ClientData",
    "ClientStats",
    "Participation",
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
