"""What an aggregator is: a tuple of functions that the engines call.

    state = init(weights)                                               # once per run
    each round:
        for each block of the cohort, in a graph:
            accumulator = zero(state, weights)
            for each client, in cohort order:
                accumulator = accumulate(state, accumulator, delta, weight, seed)
        accumulator = merge(accumulator of the blocks so far, accumulator of the next block)
        delta, state, metrics = report(state, accumulator, seed)

The functions are pure and use `fedlab.ops`. The blocks depend on the cohort only, so the result
has the same bits for any number of workers. A client whose update is not finite is passed with
weight 0 and a delta of zeros. A client of weight 0 does not affect the result.

Aggregators compose: an aggregator that changes each client's update takes the aggregator of the
changed updates as an argument, as in `clipped(quantized(mean()))`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab import _checks
from fedlab.aggregators.privacy import Privacy
from fedlab.ops import Nest, Tensor, Weights


def check(aggregator: Any) -> "Aggregator":
    """Returns an `Aggregator`, or raises TypeError for anything else."""
    if not isinstance(aggregator, Aggregator):
        raise _checks.type_error("aggregator", aggregator, "an Aggregator, such as mean()")
    return aggregator


class Aggregator(NamedTuple):
    """Combines the clients' updates as they arrive, usually in the memory of one model.

    Attributes:
      name: the name of the function that makes it.
      settings: the arguments of that function. They are written to run folders, and engines with
        their own implementation read them.
      init: weights -> state, a nest of tensors that lasts from round to round and is part of a
        checkpoint. `weights` are the model's trainable weights, whose shapes and dtypes matter.
      zero: (state, weights) -> accumulator, a nest of tensors.
      accumulate: (state, accumulator, delta, weight, seed) -> accumulator. `weight` is a float32
        scalar of at least 0. `seed`, int64 [2], is for random operations and depends on
        (seed, round, client). It runs in graphs.
      merge: (accumulator, accumulator) -> accumulator, of earlier and of later clients.
      report: (state, accumulator, seed) -> (delta, state, metrics). It runs eagerly, once per
        round. `delta` has the model's shapes and dtypes, `seed` depends on (seed, round).
        `metrics` maps names to scalars. If updates are encoded, "bytes_up" is their total size.
      privacy: the guarantee if the result is differentially private, or None.
    """

    name: str
    settings: dict[str, Any]
    init: Callable[[Weights], Nest]
    zero: Callable[[Nest, Weights], Nest]
    accumulate: Callable[[Nest, Nest, Weights, Tensor, Tensor], Nest]
    merge: Callable[[Nest, Nest], Nest]
    report: Callable[[Nest, Nest, Tensor], tuple[Weights, Nest, dict[str, Any]]]
    privacy: Privacy | None = None
