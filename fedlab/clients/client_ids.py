"""Checks of client ids, and a stable order of clients."""

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from fedlab import _checks
from fedlab._text import is_unicode


def check_ids(client_ids: Any) -> tuple[str, ...]:
    """Returns client ids as a tuple.

    Raises:
      ValueError: there is no id, one that is not valid Unicode, or the same id twice.
      TypeError: not an iterable of strings.
    """
    if isinstance(client_ids, (str, bytes)) or not isinstance(client_ids, Iterable):
        raise _checks.type_error("client_ids", client_ids, "a sequence of strings")
    ids = tuple(client_ids)
    if not ids:
        raise ValueError(
            "client_ids is empty: expected at least one client; check the data source or selection"
        )
    seen: set[str] = set()
    for client_id in ids:
        if not isinstance(client_id, str):
            raise TypeError(f"client id {client_id!r}: expected a string; use str(client_id)")
        if not is_unicode(client_id):
            raise ValueError(
                f"client id {client_id!r}: expected valid Unicode, not half of a surrogate pair; "
                "rename the client"
            )
        if client_id in seen:
            raise ValueError(
                f"client id {client_id!r} occurs twice: expected unique ids; merge or rename the "
                "clients"
            )
        seen.add(client_id)
    return ids


def unknown_id(client_id: object, client_ids: Sequence[str]) -> KeyError:
    """Returns the error for a client id that does not exist; it lists similar ids."""
    close = difflib.get_close_matches(str(client_id), client_ids, n=3)
    hint = f"similar: {', '.join(map(repr, close))}" if close else f"such as {client_ids[0]!r}"
    return KeyError(
        f"client_id={client_id!r}: expected one of the {len(client_ids)} clients in client_ids, "
        f"{hint}"
    )


def ranked(client_ids: Iterable[str], prefix: str = "") -> list[str]:
    """Returns client ids in the order of sha256(prefix + client_id).

    A client keeps its position relative to others when clients are added or removed.
    """
    return sorted(client_ids, key=lambda id_: hashlib.sha256(f"{prefix}{id_}".encode()).digest())
