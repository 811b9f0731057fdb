"""Batches of a client's examples."""

from typing import NamedTuple

import numpy as np

from fedlab import _checks

MOST_ROWS = 2**31 - 1
"""The largest batch size: sizes are int32."""


class Batching(NamedTuple):
    """How a client reads its examples in one round.

    Attributes:
      batch_size: examples per step, 1 or more.
      epochs: passes over the client's examples, 1 or more.
      shuffle: whether each pass uses a new order.
      max_batches: the maximum number of steps per round, or None for no limit.
      drop_remainder: whether a last batch of fewer than `batch_size` examples is left
        out.
    """

    batch_size: int = 8
    epochs: int = 1
    shuffle: bool = True
    max_batches: int | None = None
    drop_remainder: bool = False

    def check(self) -> "Batching":
        """Returns itself, or raises ValueError if a setting is out of range."""
        _checks.check_int("batch_size", self.batch_size, 1, MOST_ROWS)
        _checks.check_int("epochs", self.epochs)
        if self.max_batches is not None:
            _checks.check_int("max_batches", self.max_batches)
        for name in ("shuffle", "drop_remainder"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise _checks.value_error(name, getattr(self, name), "True or False")
        return self


def batch_rows(
    num_examples: int, batching: Batching, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which examples each step reads.

    Args:
      num_examples: the number of examples that the client has.
      batching: a `Batching`.
      rng: a NumPy generator for the order, or None if the batches are not shuffled.

    Returns:
      (rows, sizes): rows is int32 [steps, batch_size], row numbers, where a short batch
      is filled up with row 0. sizes is int32 [steps], the number of real rows per step.
      If the client has fewer than `batch_size` examples, rows has that many columns
      instead.

    Example:
      >>> batching = Batching(batch_size=2, shuffle=False)
      >>> rows, sizes = batch_rows(5, batching, np.random.default_rng(0))
      >>> rows.tolist(), sizes.tolist()
      ([[0, 1], [2, 3], [4, 0]], [2, 2, 1])
    """
    size = batching.batch_size
    steps = num_examples // size if batching.drop_remainder else -(-num_examples // size)
    # So a batch size of a million, to get all examples at once, costs nothing.
    size = min(size, max(num_examples, 1))
    epochs = []
    for _ in range(batching.epochs):
        order = np.arange(num_examples)
        if batching.shuffle:
            assert rng is not None
            order = rng.permutation(num_examples)
        epoch = np.zeros(steps * size, np.int32)
        epoch[:num_examples] = order[: steps * size]
        epochs.append(epoch.reshape(steps, size))
        if batching.max_batches and steps * len(epochs) >= batching.max_batches:
            break
    rows = np.concatenate(epochs)[: batching.max_batches]
    sizes = np.full(steps, size, np.int32)
    if steps and not batching.drop_remainder:
        sizes[-1] = num_examples - (steps - 1) * size
    return rows, np.tile(sizes, len(epochs))[: batching.max_batches]
