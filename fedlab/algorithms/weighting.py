"""How much each client counts in the mean."""

import tensorflow as tf

WEIGHTINGS = {
    "num_examples": lambda counts: counts.num_examples,
    "num_tokens": lambda counts: counts.num_tokens,
    "uniform": lambda counts: tf.ones_like(counts.num_examples),
}


def get(weighting):
    """The function `Counts -> float32 scalar` for a name of `WEIGHTINGS`; a function is returned as it is.

    Raises:
      ValueError: for an unknown name.
    """
    if callable(weighting):
        return weighting
    if not isinstance(weighting, str) or weighting not in WEIGHTINGS:
        raise ValueError(f"client_weighting is {weighting!r}; allowed: {', '.join(WEIGHTINGS)}, or a function of the counts.")
    return WEIGHTINGS[weighting]
