"""Checkpoints: numbers and JSON in a NumPy archive, with a checksum; a damaged one is named, and the one before it is used.

A file is an ordinary `.npz` with the SHA-256 of its bytes after it, which `numpy.load` passes over. Reading one never runs code.
"""

import hashlib
import io
import json
import logging
from typing import Any, NamedTuple

import numpy as np

from fedlab import _json
from fedlab._files import DAMAGE, write

logger = logging.getLogger("fedlab")

_KEPT = 2
_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedError(ValueError):
    """The bytes are not those of a checkpoint as it was written."""


class Checkpoint(NamedTuple):
    """The state after a round.

    Attributes:
      about: what JSON can hold; "round" is the round.
      arrays: NumPy arrays, and None where one still is what the run started from.
    """

    about: dict
    arrays: Any


def encode(checkpoint):
    """The bytes of a checkpoint, in parts.

    Raises:
      TypeError: an array holds Python objects, which only code could read.
    """
    entries, dtypes = {}, {}
    for i, array in enumerate(checkpoint.arrays):
        if array is None:
            continue
        array = np.asarray(array)
        if array.dtype.hasobject:
            raise TypeError(
                f"array {i} of the state holds Python objects; allowed in a checkpoint: numbers."
            )
        if array.dtype.kind == "V":  # bfloat16 and the like, which NumPy's files do not know
            dtypes[i] = array.dtype.name
            if _dtype(array.dtype.name) != array.dtype:
                raise TypeError(
                    f"array {i} of the state is of {array.dtype}; allowed in a checkpoint: numbers."
                )
            array = array.view(f"u{array.dtype.itemsize}")
        entries[_name(i)] = array
    about = {"about": checkpoint.about, "num_arrays": len(checkpoint.arrays), "dtypes": dtypes}
    buffer = io.BytesIO()
    np.savez(buffer, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **entries)
    data = buffer.getbuffer()
    return data, hashlib.sha256(data).digest()


def decode(data):
    """The `Checkpoint` in the bytes that `encode` gave.

    Raises:
      DamagedError: they are others.
    """
    body, checksum = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        raise DamagedError("its checksum is another")
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as entries:
            about = _json.loads(entries["about"].tobytes())
            arrays = [
                entries[_name(i)] if _name(i) in entries else None
                for i in range(about["num_arrays"])
            ]
        for i, name in about["dtypes"].items():
            if _dtype(name) is None:
                raise TypeError(f"it has numbers of {name!r:.40}")
            arrays[int(i)] = arrays[int(i)].view(_dtype(name))
        return Checkpoint(about["about"], arrays)
    except DAMAGE as error:
        raise DamagedError(f"it is no checkpoint: {error}") from error


def digest(array):
    """What tells an array's dtype, shape and bits from others'."""
    return hashlib.sha256(
        f"{array.dtype.name} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()


class Checkpoints:
    """The checkpoints of a run in a folder, the last two of them."""

    def __init__(self, folder):
        self.folder = folder

    def rounds(self):
        """The rounds there are checkpoints of, damaged ones too, in order."""
        return sorted(
            int(file.stem.removeprefix("round_")) for file in self.folder.glob("round_*.npz")
        )

    def file(self, round_num):
        return self.folder / f"round_{round_num:06}.npz"

    def save(self, checkpoint):
        """Writes a checkpoint, and removes those that are older than the one before it."""
        self.folder.mkdir(exist_ok=True)
        write(self.file(checkpoint.about["round"]), *encode(checkpoint))
        self._forget_old()

    def last(self):
        """The last `Checkpoint` that is good, or None where there is no file at all.

        Raises:
          ValueError: there are files, and all are damaged.
        """
        for unfinished in self.folder.glob("*.tmp"):
            unfinished.unlink()
        rounds = self.rounds()
        for round_num in reversed(rounds):
            file = self.file(round_num)
            try:
                checkpoint = decode(file.read_bytes())
                if checkpoint.about["round"] != round_num:
                    raise DamagedError(f"it is of round {checkpoint.about['round']}")
            except DamagedError as error:
                logger.warning("%s is damaged (%s); the checkpoint before it is used.", file, error)
                continue
            if round_num == rounds[-1]:
                self._forget_old()  # a kill may have come before `save` did
            return checkpoint
        if rounds:
            names = ", ".join(self.file(round_num).name for round_num in rounds)
            raise ValueError(
                f"every checkpoint in {self.folder} is damaged: {names}. Put a good copy back, or start a new run folder."
            )
        return None

    def _forget_old(self):
        for round_num in self.rounds()[:-_KEPT]:
            self.file(round_num).unlink()


def _name(i):
    return f"array_{i:05}"


def _dtype(name):
    """The dtype of that name that TensorFlow adds to NumPy's, or None."""
    import tensorflow as tf

    try:
        return tf.as_dtype(name).as_numpy_dtype
    except TypeError:
        return None
