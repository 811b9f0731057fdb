"""Checks of client ids, and a stable order of clients."""

import array
import difflib
import hashlib
import heapq
import itertools
from collections.abc import Container, Iterable, Sequence, Sized
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab._text import is_unicode
from fedlab.clients.id_index import IdSet, IndexedIds

_COMPARED = 10_000
"""How many ids an unknown one is compared with, for the hint in its error."""
_CHUNK = 10_000


def check_ids(client_ids: Any) -> Sequence[str]:
    """Returns client ids as a tuple, or as the `IndexedIds` that they are.

    Raises:
      ValueError: there is no id, one that is not valid Unicode, or the same id twice.
      TypeError: not an iterable of strings.
    """
    if isinstance(client_ids, IndexedIds) and client_ids:
        return client_ids
    if isinstance(client_ids, (str, bytes)) or not isinstance(client_ids, Iterable):
        raise _checks.type_error("client_ids", client_ids, "a sequence of strings")
    ids = tuple(client_ids)
    if not ids:
        raise ValueError(
            "client_ids is empty: expected at least one client; check the data source or selection"
        )
    seen: set[str] = set()
    for client_id in ids:
        check_id(client_id)
        if client_id in seen:
            raise _twice(client_id)
        seen.add(client_id)
    return ids


def check_id(client_id: Any) -> str:
    """Returns a client id.

    Raises:
      TypeError: it is not a string.
      ValueError: it is not valid Unicode.
    """
    if not isinstance(client_id, str):
        raise TypeError(f"client id {client_id!r}: expected a string; use str(client_id)")
    if not is_unicode(client_id):
        raise ValueError(
            f"client id {client_id!r}: expected valid Unicode, not half of a surrogate pair; "
            "rename the client"
        )
    return client_id


def select(known: Sequence[str], members: Container[str], client_ids: Any) -> Sequence[str]:
    """Returns some of the known ids, in the given order.

    Args:
      known: what `check_ids` returned.
      members: the same ids, for look-ups.
      client_ids: the wanted ids. Of `IndexedIds`, an iterator of a million ids takes 5
        bytes for each.

    Raises:
      KeyError: an id is not known.
      TypeError, ValueError: as `check_ids`.
    """
    if isinstance(client_ids, IndexedIds) and isinstance(known, IndexedIds):
        if known.includes(client_ids):
            return check_ids(client_ids)
    if not isinstance(known, IndexedIds) or isinstance(client_ids, (str, bytes, Sized)):
        chosen = check_ids(client_ids)
        for client_id in chosen:
            if client_id not in members:
                raise unknown_id(client_id, known)
        return chosen
    places, seen = array.array("I"), bytearray(known.num_places)
    for client_id in client_ids if isinstance(client_ids, Iterable) else check_ids(client_ids):
        if (place := known.place(check_id(client_id))) is None:
            raise unknown_id(client_id, known)
        if seen[place]:
            raise _twice(client_id)
        seen[place] = True
        places.append(place)
    return check_ids(known.at(np.asarray(places)) if places else ())


def take(client_ids: Sequence[str], positions: np.ndarray) -> Sequence[str]:
    """Returns the ids at some positions, int [n], as what `client_ids` is."""
    if isinstance(client_ids, IndexedIds):
        return client_ids.take(positions)
    return tuple(client_ids[i] for i in positions.tolist())


def members(client_ids: Sequence[str]) -> Container[str]:
    """Returns the ids for look-ups: a set, or `IndexedIds` themselves."""
    return client_ids if isinstance(client_ids, IndexedIds) else frozenset(client_ids)


def empty_set(client_ids: Sequence[str]) -> "set[str] | IdSet":
    """Returns an empty set, to which some of these ids can be added."""
    return IdSet(client_ids) if isinstance(client_ids, IndexedIds) else set()


def digest(client_ids: Iterable[str]) -> str:
    r"""Returns the SHA-256 of the ids, joined by newlines, in hexadecimal.

    Example:
      >>> digest(["ann", "bob"]) == hashlib.sha256(b"ann\nbob").hexdigest()
      True
    """
    result, between, ids = hashlib.sha256(), b"", iter(client_ids)
    while chunk := list(itertools.islice(ids, _CHUNK)):
        result.update(between + "\n".join(chunk).encode())
        between = b"\n"
    return result.hexdigest()


def _twice(client_id: str) -> ValueError:
    return ValueError(
        f"client id {client_id!r} occurs twice: expected unique ids; merge or rename the clients"
    )


def unknown_id(client_id: object, client_ids: Sequence[str]) -> KeyError:
    """Returns the error for a client id that does not exist; it lists similar ids."""
    close = difflib.get_close_matches(str(client_id), client_ids[:_COMPARED], n=3)
    hint = f"similar: {', '.join(map(repr, close))}" if close else f"such as {client_ids[0]!r}"
    return KeyError(
        f"client_id={client_id!r}: expected one of the {len(client_ids)} clients in client_ids, "
        f"{hint}"
    )


def ranked(client_ids: Iterable[str], prefix: str = "", most: int | None = None) -> list[str]:
    """Returns client ids in the order of sha256(prefix + client_id).

    A client keeps its position relative to others when clients are added or removed.

    Args:
      client_ids: the ids.
      prefix: a string.
      most: how many of them are returned, by default all. Memory does not grow with the
        number of the others.
    """

    def key(client_id: str) -> bytes:
        return hashlib.sha256(f"{prefix}{client_id}".encode()).digest()

    if most is None:
        return sorted(client_ids, key=key)
    return heapq.nsmallest(most, client_ids, key=key)


def ranks(client_ids: Iterable[str], prefix: str = "") -> np.ndarray:
    """Returns the positions of client ids in the order of sha256(prefix + client_id): int64 [n].

    Example:
      >>> ids = ["ann", "bob", "eve"]
      >>> [ids[i] for i in ranks(ids, "0/")] == ranked(ids, "0/")
      True
    """
    digests = bytearray()
    for client_id in client_ids:
        digests += hashlib.sha256(f"{prefix}{client_id}".encode()).digest()
    # Four numbers each, which are compared one after the other, as bytes are.
    numbers = np.frombuffer(digests, ">u8").reshape(-1, 4)
    return np.lexsort(numbers.T[::-1])
