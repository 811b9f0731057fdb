"""What clients keep between rounds, for the graphs of `client_work`."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf


class Store(Protocol):
    """Keeps the states of clients as bytes; see `fedlab.runs.write.client_states.ClientStates`."""

    def read(self, client_id: str, round_num: int) -> bytes | None:
        """The bytes that were last written before this round, or None."""

    def write(self, round_num: int, states: Iterable[tuple[str, Any]]) -> None:
        """Writes (client id, bytes) of clients that trained in this round."""


class MemoryStore:
    """A `Store` in memory, for runs without a folder. It keeps a client's last two states."""

    def __init__(self):
        self._states = {}

    def read(self, client_id: str, round_num: int) -> bytes | None:
        """As `Store.read`."""
        states = self._states.get(client_id, ())
        return next((data for at, data in reversed(states) if at < round_num), None)

    def write(self, round_num: int, states: Iterable[tuple[str, Any]]) -> None:
        """As `Store.write`."""
        for client_id, data in states:
            before = [each for each in self._states.get(client_id, ()) if each[0] < round_num]
            self._states[client_id] = [*before[-1:], (round_num, data)]


class StateRows:
    """Reads the states of blocks of clients. One thread at a time may use it.

    Args:
      store: a `Store`.
    """

    def __init__(self, store: Store):
        self._store = store
        # Reused, since fresh memory costs more than what is written into it.
        self._buffers: tuple[Any, list[np.ndarray]] = None, []

    def read(self, first: Any, round_num: int, client_ids: Sequence[str]) -> Any:
        """Returns the states of clients before a round.

        Args:
          first: a nest of tensors, the state of a client that has not trained yet.
          round_num: the round.
          client_ids: the clients.

        Returns:
          A nest like `first` of tensors [clients, ...].
        """
        like = [np.asarray(array) for array in tf.nest.flatten(first)]
        if not like:
            return first
        size = len(client_ids), *((array.shape, array.dtype) for array in like)
        if self._buffers[0] != size:
            self._buffers = size, [np.empty([len(client_ids), *a.shape], a.dtype) for a in like]
        for i, client_id in enumerate(client_ids):
            data = self._store.read(client_id, round_num)
            for rows, array in zip(self._buffers[1], like if data is None else unpack(data, like)):
                rows[i] = array
        return tf.nest.pack_sequence_as(first, [tf.constant(rows) for rows in self._buffers[1]])


def pack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The bytes of some arrays, as an array of uint8."""
    return np.concatenate(
        [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    )


def unpack(data: bytes | np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays that `pack` was given, which have the shapes and dtypes of `like`."""
    arrays, start = [], 0
    for array in like:
        arrays.append(np.frombuffer(data, array.dtype, array.size, start).reshape(array.shape))
        start += array.nbytes
    return arrays
