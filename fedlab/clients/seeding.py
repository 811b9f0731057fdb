"""Random numbers by purpose: every draw is a pure function of (seed, purpose, round, client)."""

import hashlib

import numpy as np

from fedlab import _checks


def generator(seed, purpose, *key):
    """A NumPy generator for one purpose, independent of every other purpose, round and client.

    Args:
      seed: the run's seed, a non-negative int.
      purpose: what is drawn, for example "cohort" or "batches".
      *key: what it is drawn for: round number, client id.

    Example:
      >>> int(generator(0, "cohort", 1).integers(100)) == int(generator(0, "cohort", 1).integers(100))
      True
    """
    digest = hashlib.sha256("\x1f".join([purpose, *map(str, key)]).encode()).digest()
    return np.random.Generator(
        np.random.PCG64(
            np.random.SeedSequence([check_seed(seed), int.from_bytes(digest[:16], "little")])
        )
    )


def stateless(seed, purpose, *key):
    """A seed for `tf.random.stateless_*`, drawn as `generator` draws: int64 [2].

    Example:
      >>> stateless(0, "aggregator", 1).shape
      (2,)
    """
    digest = hashlib.sha256(
        "\x1f".join(["stateless", str(check_seed(seed)), purpose, *map(str, key)]).encode()
    ).digest()
    return np.frombuffer(digest[:16], "<i8").astype(np.int64)


def check_seed(seed):
    """Returns `seed`, or raises ValueError where it is not a non-negative int."""
    _checks.check_int("seed", seed, 0)
    return int(seed)
