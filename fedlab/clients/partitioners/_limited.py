"""Draws without replacement from stocks of examples that run out."""

import numpy as np


def draw(
    rng: np.random.Generator, num_draws: int, probabilities: np.ndarray, stocks: np.ndarray
) -> np.ndarray:
    """Draws labels until their stocks run out; a draw from an empty stock is repeated.

    Drawing all at once and repeating what exceeds a stock has the same distribution of
    counts as drawing one by one, since the order of repeated draws does not matter. If
    only labels of probability 0 have a stock, they are drawn in proportion to it.

    Args:
      rng: the generator.
      num_draws: at most sum(stocks).
      probabilities: [labels], sums to 1.
      stocks: [labels] int64, how many examples each label has.

    Returns:
      [labels] int64, how often each label is drawn.

    Example:
      >>> draw(np.random.default_rng(0), 5, np.array([0.9, 0.1, 0.0]), np.array([2, 2, 9]))
      array([2, 2, 1])
    """
    taken = np.zeros_like(stocks)
    while num_draws:
        weights = np.where(taken < stocks, probabilities, 0.0)
        if not weights.sum() > 0:
            weights = (stocks - taken).astype(np.float64)
        counts = rng.multinomial(num_draws, weights / weights.sum())
        counts = np.minimum(counts, stocks - taken)
        taken += counts
        num_draws -= int(counts.sum())
    return taken


class Stock:
    """The examples of each label, in random order, to be taken without replacement.

    Args:
      rng: the generator.
      codes: [n] int64, the label of each example, from 0 to num_labels - 1.
      num_labels: the number of labels.
    """

    def __init__(self, rng: np.random.Generator, codes: np.ndarray, num_labels: int):
        order = rng.permutation(len(codes))
        self._rows = order[np.argsort(codes[order], kind="stable")].astype(np.int64)
        self.sizes = np.bincount(codes, minlength=num_labels)
        self._starts = np.cumsum(self.sizes) - self.sizes

    def take(self, counts: np.ndarray) -> np.ndarray:
        """Removes that many examples of each label, and returns their rows."""
        parts = [self._rows[s : s + n] for s, n in zip(self._starts, counts) if n]
        self._starts = self._starts + counts
        self.sizes = self.sizes - counts
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)
