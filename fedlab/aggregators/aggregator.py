"""What an aggregator is: a tuple of functions that the engines run.

    state = init(weights)                                               # once a run
    each round:
        for each block of the cohort, in TensorFlow graphs:
            accumulator = zero(state, weights)
            for each client, in cohort order:
                accumulator = accumulate(state, accumulator, delta, weight, seed)
        accumulator = merge(accumulator, accumulator of the next block), block by block
        delta, state, metrics = report(state, accumulator, seed)

Each function is pure, and the cohort alone decides the blocks: the result has the same bits whatever the number of workers. A client whose
update is not finite comes with weight 0 and an update of zeros. A client of weight 0 counts for nothing.

Aggregators compose: one that treats clients' updates before another aggregates them takes that other, as `clipped(quantized(mean()))`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab import _checks


def check(aggregator):
    """Returns an `Aggregator`, or raises TypeError where it is none."""
    if not isinstance(aggregator, Aggregator):
        raise TypeError(
            f"the aggregator is {_checks.kind(aggregator)}; allowed: an Aggregator, as a call such as mean() gives it."
        )
    return aggregator


class Aggregator(NamedTuple):
    """Folds clients' updates into one as they come, most of them in the memory of one model.

    Attributes:
      name: as its file is named.
      settings: the arguments it was made with, for run folders and for engines that bring their own implementation.
      init: weights -> state, a nest of tensors that lasts from round to round and is part of a checkpoint. `weights` is the list of the
        model's trainable weights and gives shapes and dtypes.
      zero: (state, weights) -> accumulator, a nest of tensors.
      accumulate: (state, accumulator, delta, weight, seed) -> accumulator. `delta` has the model's shapes, `weight` is a float32 scalar
        of 0 or more, `seed` an int64 [2] for `tf.random.stateless_*`, a function of (seed, round, client). It runs in graphs.
      merge: (accumulator, accumulator) -> accumulator, of earlier and of later clients.
      report: (state, accumulator, seed) -> (delta, state, metrics). It runs once a round, eagerly. `delta` has the model's shapes and
        dtypes, `seed` is a function of (seed, round). `metrics` maps names to scalars; where updates are encoded, "bytes_up" says to how
        many bytes all together.
      privacy: a `fedlab.aggregators.privacy.Privacy` where the result is differentially private, or None.
    """

    name: str
    settings: dict
    init: Callable
    zero: Callable
    accumulate: Callable
    merge: Callable
    report: Callable
    privacy: Any = None
