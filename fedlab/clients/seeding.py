"""Random numbers as pure functions of (seed, purpose, round, client)."""

import hashlib
from typing import Any

import numpy as np

from fedlab import _checks


def generator(seed: int, purpose: str, *key: Any) -> np.random.Generator:
    """Returns a NumPy generator that is independent for each purpose, round and client.

    Args:
      seed: the run's seed, a non-negative int.
      purpose: what is drawn, for example "cohort" or "batches".
      *key: what it is drawn for: round number, client id.

    Example:
      >>> draws = [generator(0, "cohort", 1).integers(100, size=3).tolist() for _ in range(2)]
      >>> draws[0] == draws[1]
      True
    """
    digest = hashlib.sha256("\x1f".join([purpose, *map(str, key)]).encode()).digest()
    entropy = [check_seed(seed), int.from_bytes(digest[:16], "little")]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def stateless(seed: int, purpose: str, *key: Any) -> np.ndarray:
    """Returns a seed for `tf.random.stateless_*`, int64 [2]; arguments as for `generator`.

    Example:
      >>> stateless(0, "aggregator", 1).shape
      (2,)
    """
    text = "\x1f".join(["stateless", str(check_seed(seed)), purpose, *map(str, key)])
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<i8").astype(np.int64)


def check_seed(seed: Any) -> int:
    """Returns `seed`, or raises ValueError if it is not a non-negative integer."""
    return _checks.check_int("seed", seed, 0)
