"""A cache of the entries used last."""

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Keeps the entries used last, up to a size limit. Not thread-safe.

    Args:
      limit_bytes: the size limit; None for no limit. A larger entry is not kept.

    Attributes:
      num_bytes: the size of the entries that are kept.

    Example:
      >>> cache = LruCache(limit_bytes=2)
      >>> for key in "abc": cache.add(key, key.upper(), num_bytes=1)
      >>> cache.get("a"), cache.get("c")
      (None, 'C')
    """

    def __init__(self, limit_bytes: int | None):
        self._limit_bytes = float("inf") if limit_bytes is None else limit_bytes
        # In the order of use; the entry used last comes last.
        self._entries: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Value | None:
        """Returns an entry, or None if it is not kept."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def add(self, key: str, value: Value, num_bytes: int) -> None:
        """Adds an entry whose key is not kept, and drops those that no longer fit."""
        if num_bytes > self._limit_bytes:
            return
        self._entries[key] = value, num_bytes
        self.num_bytes += num_bytes
        while self.num_bytes > self._limit_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.num_bytes -= dropped
