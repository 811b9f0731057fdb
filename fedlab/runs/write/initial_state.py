"""The state that a run started from, which checkpoints do not repeat."""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlab._files import write
from fedlab.runs.write.checkpoints import Checkpoint, DamagedError, decode, digest, encode

logger = logging.getLogger("fedlab")


class InitialState:
    """The arrays of the initial state, in a file.

    A checkpoint leaves out the arrays that no round has changed so far, such as those of
    frozen layers, and holds their digests instead.

    Args:
      file: the path of initial.npz.
    """

    def __init__(self, file: pathlib.Path):
        self._file = file
        self._arrays: list[np.ndarray | None] = []  # None: a round has changed it
        self._digests: dict[str, str] = {}  # number of an array -> its digest

    def resume(
        self, initial: Sequence[np.ndarray], checkpoint: Checkpoint | None
    ) -> list[np.ndarray]:
        """Returns the arrays of the state to continue from.

        A run continues from the initial state in its folder, because a model that is built
        without a seed has other weights in every process.

        Args:
          initial: the arrays of the model that was passed. A new run starts from them.
          checkpoint: the last checkpoint, or None.

        Raises:
          ValueError: the folder holds the state of another model, or the file is damaged or
            missing although the checkpoint needs it.
        """
        self._digests = checkpoint.about["initial"] if checkpoint else {}
        stored = self._read(initial)
        current = checkpoint.arrays if checkpoint else [None] * len(stored)
        for arrays in (stored, current):
            if len(arrays) != len(initial):
                raise ValueError(
                    f"{self._file.parent} holds a state of {len(arrays)} arrays: expected "
                    f"{len(initial)}, as in this model; start a new run folder"
                )
        if not all(map(_same_bits, initial, stored)):
            logger.warning(
                "the model's weights differ from those that the run in %s started with; "
                "the run continues from the stored ones. "
                "Choose another run folder to train from the model's weights.",
                self._file.parent,
            )
        self._arrays = [a if now is None else None for a, now in zip(stored, current)]
        return [a if now is None else now for a, now in zip(stored, current)]

    def _read(self, initial: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Returns the arrays in the file, which is rewritten from `initial` if that suffices."""
        try:
            stored = decode(self._file.read_bytes()).arrays
            if not _match(self._digests, stored):
                raise DamagedError("it belongs to another run")
            return stored
        except FileNotFoundError:
            problem = "is missing"
        except DamagedError as error:
            problem = f"is damaged ({error})"
        if not _match(self._digests, initial):
            raise ValueError(
                f"{self._file} {problem}: restore the file that belongs to the run or start a "
                "new run folder"
            )
        write(self._file, *encode(Checkpoint({}, initial)))
        return [np.asarray(array) for array in initial]

    def checkpoint(self, about: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> Checkpoint:
        """Returns a checkpoint without the arrays that no round has changed so far."""
        changed: list[np.ndarray | None] = []
        for i, (array, first) in enumerate(zip(arrays, self._arrays)):
            if first is not None and _same_bits(array, first):
                if str(i) not in self._digests:
                    self._digests[str(i)] = digest(array)
                changed.append(None)
            else:
                self._arrays[i] = None  # frees the memory
                changed.append(array)
        unchanged = {str(i): self._digests[str(i)] for i, a in enumerate(changed) if a is None}
        return Checkpoint({**about, "initial": unchanged}, changed)


def _match(digests: Mapping[str, str], arrays: Sequence[np.ndarray]) -> bool:
    return all(int(i) < len(arrays) and digest(arrays[int(i)]) == d for i, d in digests.items())


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    if (first.dtype, first.shape) != (second.dtype, second.shape) or first.dtype.hasobject:
        return False
    a, b = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (first, second))
    return np.array_equal(a, b)
