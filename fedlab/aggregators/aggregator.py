"""What an aggregator is."""

from collections.abc import Callable
from typing import NamedTuple


class Aggregator(NamedTuple):
    """Folds clients' updates into one as they come, in the memory of one model.

    Attributes:
      name: as its file is named.
      zero: weights -> accumulator. `weights` gives shapes and dtypes; the accumulator is any nest of tensors.
      accumulate: (accumulator, delta, weight) -> accumulator. Runs in graphs, in cohort order.
      merge: (accumulator, accumulator) -> accumulator, of earlier and of later clients.
      report: accumulator -> (delta, metrics). `delta` has the model's shapes, `metrics` maps names to scalars.
    """

    name: str
    zero: Callable
    accumulate: Callable
    merge: Callable
    report: Callable
