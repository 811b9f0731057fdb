"""Federated algorithms, one file each, named as its paper. `get` finds them by name."""

from fedlab.algorithms.algorithm import Algorithm, ClientResult, Counts
from fedlab.algorithms.fed_avg import fed_avg

__all__ = ["Algorithm", "ClientResult", "Counts", "fed_avg"]
