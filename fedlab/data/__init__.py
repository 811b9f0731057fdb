"""Clients' data: columns by client, batches, and cohorts."""

from fedlab.data.batching import Batching
from fedlab.data.client_data import ClientData
from fedlab.data.sampling import fixed, uniform

__all__ = ["Batching", "ClientData", "fixed", "uniform"]
