"""A client's examples as batches."""

from typing import NamedTuple

import numpy as np

from fedlab import _checks

MOST_ROWS = 2**31 - 1  # of a batch: sizes are int32


class Batching(NamedTuple):
    """How a client reads its examples in one round.

    Attributes:
      batch_size: examples a step, 1 or more.
      epochs: passes over the client's examples, 1 or more.
      shuffle: whether each pass has a new order.
      max_batches: at most so many steps a round, or None for all.
      drop_remainder: whether a last batch of fewer than `batch_size` examples is left out. By default it is kept.
    """

    batch_size: int = 8
    epochs: int = 1
    shuffle: bool = True
    max_batches: int | None = None
    drop_remainder: bool = False

    def check(self):
        """Returns itself, or raises ValueError naming the setting that is out of range."""
        for name in ("batch_size", "epochs", "max_batches"):
            value = getattr(self, name)
            if name == "max_batches" and value is None:
                continue
            most = MOST_ROWS if name == "batch_size" else None
            _checks.check_int(name, value, 1, most)
        for name in ("shuffle", "drop_remainder"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise _checks.value_error(name, getattr(self, name), "True or False")
        return self


def batch_rows(num_examples, batching, rng):
    """Which examples each step reads.

    Args:
      num_examples: how many examples the client has.
      batching: a `Batching`.
      rng: a NumPy generator for the order.

    Returns:
      (rows, sizes): int32 [steps, batch_size], row numbers, where a short batch is filled up with row 0; and int32 [steps], how many
      of each step's rows are real. A client with fewer than `batch_size` examples has so many columns only.

    Example:
      >>> rows, sizes = batch_rows(5, Batching(batch_size=2, shuffle=False), np.random.default_rng(0))
      >>> rows.tolist(), sizes.tolist()
      ([[0, 1], [2, 3], [4, 0]], [2, 2, 1])
    """
    size = batching.batch_size
    steps = num_examples // size if batching.drop_remainder else -(-num_examples // size)
    size = min(
        size, max(num_examples, 1)
    )  # a batch size of a million, for all examples at once, costs nothing
    epochs = []
    for _ in range(batching.epochs):
        order = rng.permutation(num_examples) if batching.shuffle else np.arange(num_examples)
        rows = np.zeros(steps * size, np.int32)
        rows[:num_examples] = order[: steps * size]
        epochs.append(rows.reshape(steps, size))
        if batching.max_batches and steps * len(epochs) >= batching.max_batches:
            break
    rows = np.concatenate(epochs)[: batching.max_batches]
    sizes = np.full(steps, size, np.int32)
    if steps and not batching.drop_remainder:
        sizes[-1] = num_examples - (steps - 1) * size
    return rows, np.tile(sizes, len(epochs))[: batching.max_batches]
