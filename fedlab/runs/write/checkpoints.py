"""Checkpoints: arrays and JSON in a NumPy archive with a checksum.

A file is an ordinary `.npz`, followed by the SHA-256 of its bytes, which `numpy.load`
ignores. Reading a checkpoint never executes code.
"""

import hashlib
import io
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _json
from fedlab._files import DAMAGE, write
from fedlab.runs.format import RESTORE

# Not safetensors: its NumPy functions refuse bfloat16, complex numbers and strings, it has
# no checksum, so that flipped bits of numbers go unnoticed, and it takes twice the memory.

logger = logging.getLogger("fedlab")

_KEPT = 2
_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedError(ValueError):
    """The bytes are not those of a checkpoint as it was written."""


class Checkpoint(NamedTuple):
    """The state after a round.

    Attributes:
      about: JSON values; "round" is the round.
      arrays: NumPy arrays. None stands for an array that still has its initial value.
    """

    about: dict[str, Any]
    arrays: Sequence[Any]


def encode(checkpoint: Checkpoint) -> tuple[memoryview, bytes]:
    """Returns the bytes of a checkpoint, in two parts.

    Raises:
      TypeError: an array holds Python objects or records.
    """
    entries: dict[str, Any] = {}
    dtypes = {}
    for i, array in enumerate(checkpoint.arrays):
        if array is None:
            continue
        array = np.asarray(array)
        if array.dtype.kind == "V":  # bfloat16 and the like, which NumPy cannot write
            if _dtype(array.dtype.name) != array.dtype:
                raise _type_error(i, array)
            dtypes[i] = array.dtype.name
            array = array.view(f"u{array.dtype.itemsize}")
        elif array.dtype.hasobject:
            raise _type_error(i, array)
        entries[_name(i)] = array
    about = {"about": checkpoint.about, "num_arrays": len(checkpoint.arrays), "dtypes": dtypes}
    buffer = io.BytesIO()
    np.savez(buffer, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **entries)
    data = buffer.getbuffer()
    return data, hashlib.sha256(data).digest()


def decode(data: bytes) -> Checkpoint:
    """Returns the checkpoint that `encode` turned into these bytes.

    Raises:
      DamagedError: `encode` did not return these bytes.
    """
    body, checksum = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        raise DamagedError("its checksum does not match")
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as entries:
            about = _json.loads(entries["about"].tobytes())
            arrays: list[Any] = [
                entries[_name(i)] if _name(i) in entries else None
                for i in range(about["num_arrays"])
            ]
        for i, name in about["dtypes"].items():
            if _dtype(name) is None:
                raise TypeError(f"unknown dtype {name!r:.40}")
            arrays[int(i)] = arrays[int(i)].view(_dtype(name))
        return Checkpoint(about["about"], arrays)
    except DAMAGE as error:
        raise DamagedError(f"it is not a checkpoint: {error}") from error


def digest(array: np.ndarray) -> str:
    """Returns a hash of the dtype, shape and bits of an array."""
    return hashlib.sha256(
        f"{array.dtype.name} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()


class Checkpoints:
    """The checkpoints of a run in a folder. The last two are kept."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def rounds(self) -> list[int]:
        """Returns the rounds that have a checkpoint, damaged or not, in order."""
        return sorted(
            int(file.stem.removeprefix("round_")) for file in self.folder.glob("round_*.npz")
        )

    def file(self, round_num: int) -> pathlib.Path:
        """Returns the path of the checkpoint of a round."""
        return self.folder / f"round_{round_num:06}.npz"

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint and removes all but the last two."""
        self.folder.mkdir(exist_ok=True)
        write(self.file(checkpoint.about["round"]), *encode(checkpoint))
        self._remove_old()

    def last(self) -> Checkpoint | None:
        """Returns the last undamaged checkpoint, or None if there are no files.

        Raises:
          ValueError: there are files, and all are damaged.
        """
        for unfinished in self.folder.glob("*.tmp"):
            unfinished.unlink()
        rounds = self.rounds()
        damaged = []
        for round_num in reversed(rounds):
            file = self.file(round_num)
            try:
                checkpoint = decode(file.read_bytes())
                if checkpoint.about["round"] != round_num:
                    raise DamagedError(f"it is of round {checkpoint.about['round']}")
            except DamagedError as error:
                damaged.append(f"{file} is damaged ({error})")
                continue
            for each in damaged:
                logger.warning(
                    "%s: the run resumes from the checkpoint of round %d, and the rounds after it "
                    "run again.",
                    each,
                    round_num,
                )
            if round_num == rounds[-1]:
                self._remove_old()  # a kill may have come before `save` did
            return checkpoint
        if rounds:
            names = ", ".join(self.file(round_num).name for round_num in rounds)
            raise ValueError(f"every checkpoint in {self.folder} is damaged ({names}): {RESTORE}")
        return None

    def _remove_old(self) -> None:
        for round_num in self.rounds()[:-_KEPT]:
            self.file(round_num).unlink()


def _type_error(i: int, array: np.ndarray) -> TypeError:
    return TypeError(f"array {i} of the state: expected numbers or text, got dtype {array.dtype}")


def _name(i: int) -> str:
    return f"array_{i:05}"


def _dtype(name: str) -> Any:
    """Returns the dtype of that name that TensorFlow adds to NumPy's, or None."""
    import tensorflow as tf

    try:
        return tf.as_dtype(name).as_numpy_dtype
    except TypeError:
        return None
