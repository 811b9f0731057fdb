"""Client ids in an index that may be memory-mapped: a million ids, and not a million strings."""

import bisect
import functools
import operator
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

_CHUNK = 2**14
"""How many ids are decoded at once when all of them are read."""
_CHUNK_BYTES = 2**21
_FOUND = 2**16
"""How many ids are kept with their places, so that clients of a cohort are looked up once."""


class IdIndex:
    """Distinct client ids, each with a place 0, 1, ...

    Args:
      offsets: int64 [n + 1], where each id begins in `text`.
      text: uint8 [bytes], the ids in UTF-8, one after the other.
      hashes: uint32 [n], the CRC-32 of the ids in increasing order.
      places: [n], the place of the id of each hash.

    Example:
      >>> index = IdIndex.of(["ann", "bob"])
      >>> index[1], index.find("bob"), index.find("eve")
      ('bob', 1, None)
    """

    def __init__(self, offsets: Any, text: Any, hashes: Any, places: Any):
        # Items of memory views are found several times faster than those of arrays.
        self._offsets, self._text = memoryview(offsets), memoryview(text)
        self._hashes, self._places = memoryview(hashes), memoryview(places)
        self.find = functools.lru_cache(_FOUND)(self._find)

    @classmethod
    def of(cls, client_ids: Iterable[str]) -> "IdIndex":
        """Makes the index of ids in memory. They must be distinct."""
        texts = [client_id.encode() for client_id in client_ids]
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        hashes, places = hash_order(np.array([*map(zlib.crc32, texts)], np.uint32))
        return cls(offsets, np.frombuffer(b"".join(texts), np.uint8), hashes, places)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: int) -> str:
        """Returns the id at a place, 0 or more."""
        return self._bytes(place).decode()

    def read(self, places: Sequence[int] | np.ndarray) -> Iterator[str]:
        """Yields the ids at several places."""
        offsets = np.asarray(self._offsets)
        for first in range(0, len(places), _CHUNK):
            chunk = np.asarray(places[first : first + _CHUNK])
            begins, ends = offsets[chunk], offsets[chunk + 1]
            text: Any = self._text
            base = 0
            if ends.max() - begins.min() <= _CHUNK_BYTES:  # not scattered: slices of bytes are fast
                base = int(begins.min())
                text = text[base : ends.max()].tobytes()
            for begin, end in zip((begins - base).tolist(), (ends - base).tolist()):
                yield str(text[begin:end], "utf-8")

    def _find(self, client_id: str) -> int | None:
        """Returns the place of an id, or None."""
        try:
            data = client_id.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            return None
        wanted = zlib.crc32(data)
        i = bisect.bisect_left(self._hashes, wanted)
        while i < len(self._hashes) and self._hashes[i] == wanted:
            if self._bytes(self._places[i]) == data:
                return self._places[i]
            i += 1
        return None

    def _bytes(self, place: int) -> bytes:
        return bytes(self._text[self._offsets[place] : self._offsets[place + 1]])


def hash_order(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (sorted hashes, their places), which an `IdIndex` needs.

    Args:
      hashes: uint32 [n], the CRC-32 of each id.
    """
    places = np.argsort(hashes, kind="stable")
    return hashes[places], places.astype(np.uint32)


class IndexedIds(Sequence[str]):
    """Some ids of an `IdIndex`, in any order: a sequence of distinct strings.

    It takes no memory, or 9 bytes per id if the ids are not all of the index or a slice
    of it. Slices are `IndexedIds` as well.

    Args:
      index: the index.
      places: the places of the ids, each once; by default all.

    Example:
      >>> ids = IndexedIds(IdIndex.of(["ann", "bob", "eve"]))
      >>> ids[-1], ids[1:] == ("bob", "eve"), "ann" in ids[1:]
      ('eve', True, False)
    """

    def __init__(self, index: IdIndex, places: range | np.ndarray | None = None):
        self._index = index
        self._places = range(len(index)) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> "IndexedIds": ...
    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return IndexedIds(self._index, self._places[i])
        return self._index[int(self._places[operator.index(i)])]

    def __iter__(self) -> Iterator[str]:
        return self._index.read(self._places)

    def __contains__(self, client_id: object) -> bool:
        return self.place(client_id) is not None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IndexedIds) and other._index is self._index:
            return np.array_equal(self._places, other._places)
        if not isinstance(other, (IndexedIds, tuple, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self[:3]))
        return f"IndexedIds({len(self)} ids: {first}{', ...' if len(self) > 3 else ''})"

    def take(self, chosen: np.ndarray) -> "IndexedIds":
        """Returns the ids at some positions of this sequence: int [n], each once."""
        return IndexedIds(self._index, np.asarray(self._places, np.uint32)[chosen])

    def place(self, client_id: object) -> int | None:
        """Returns the place of an id in the index, or None if it is not in this sequence."""
        place = self._index.find(client_id) if isinstance(client_id, str) else None
        return place if self._has(place) else None

    def at(self, places: np.ndarray) -> "IndexedIds":
        """Returns the ids at places of the index: uint32 [n], each once."""
        return IndexedIds(self._index, places)

    @property
    def num_places(self) -> int:
        """The number of ids in the index."""
        return len(self._index)

    def includes(self, other: object) -> bool:
        """Whether `other` are `IndexedIds` of the same index, all of which are in this sequence."""
        if not isinstance(other, IndexedIds) or other._index is not self._index:
            return False
        whole = isinstance(self._places, range) and len(self) == len(self._index)
        return whole or bool(np.asarray(self._mask)[other._places].all())

    def _has(self, place: int | None) -> bool:
        if place is None:
            return False
        if isinstance(self._places, range):
            return place in self._places
        return bool(self._mask[place])

    @functools.cached_property
    def _mask(self) -> memoryview:
        mask: Any = np.zeros(len(self._index), bool)
        mask[self._places] = True
        return memoryview(mask)


class IdSet:
    """A growing set of ids: a byte for each id of an index, and none that grows.

    Args:
      client_ids: the ids that may be added.

    Example:
      >>> some = IdSet(IndexedIds(IdIndex.of(["ann", "bob"])))
      >>> some.add("bob")
      >>> "bob" in some, "ann" in some
      (True, False)
    """

    def __init__(self, client_ids: IndexedIds):
        self._client_ids = client_ids
        self._has = bytearray(client_ids.num_places)

    def add(self, client_id: str) -> None:
        """Adds an id."""
        place = self._client_ids.place(client_id)
        if place is None:
            raise KeyError(client_id)
        self._has[place] = True

    def __contains__(self, client_id: str) -> bool:
        place = self._client_ids.place(client_id)
        return place is not None and bool(self._has[place])
