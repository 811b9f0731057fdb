"""A cache of loaded clients: the columns of those used last, and the form of all of them."""

import array
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedlab.clients.columns import check_columns, num_bytes, num_rows
from fedlab.clients.id_index import IndexedIds
from fedlab.clients.lru import LruCache

if TYPE_CHECKING:
    from fedlab.clients.schema import Column

CACHE_BYTES = 2**30
"""The default size limit of the cache of a `ClientData`: 1 GiB."""


class Form(NamedTuple):
    """The form of a client's columns.

    Attributes:
      num_rows: the number of examples.
      num_bytes: the size of the columns in memory.
      rows: name -> (dtype, shape of a row), as a tuple of pairs.
    """

    num_rows: int
    num_bytes: int
    rows: tuple


class Store:
    """Loads clients and caches those used last. Thread-safe.

    Args:
      load: client_id -> columns. It must return the same columns each time, since a
        client that is no longer cached is loaded again.
      cache_bytes: the size limit of the cache in bytes; None for no limit. A client
        that is larger is not cached.
      in_memory: whether the columns are in memory anyway, so that caching them costs
        nothing and reading all of them is cheap.
      schema: the schema of all clients, if it is known.
      client_ids: the ids of all clients, if they are `IndexedIds`. Then the forms of
        clients take 4 bytes each.
    """

    def __init__(
        self,
        load: Callable[[str], Mapping[str, Any]],
        cache_bytes: int | None = CACHE_BYTES,
        in_memory: bool = False,
        schema: "dict[str, Column] | None" = None,
        client_ids: Any = None,
    ):
        self.in_memory = in_memory
        self.cache_bytes = cache_bytes
        self._load, self._schema = load, schema
        self._lock = threading.Lock()
        self._cache: LruCache[dict[str, np.ndarray]] = LruCache(None if in_memory else cache_bytes)
        self._forms = _Forms(client_ids if isinstance(client_ids, IndexedIds) else None)

    def read(self, client_id: str) -> dict[str, np.ndarray]:
        """Returns a client's checked columns.

        Raises:
          TypeError, ValueError: `load` did not return a mapping of equally long
            columns, or returned something else than the last time.
        """
        with self._lock:
            if (cached := self._cache.get(client_id)) is not None:
                return cached
        # Loaded without the lock, so that threads can load different clients at the
        # same time. Two threads that load the same client get the same arrays.
        columns = check_columns(self._load(client_id), f"client {client_id!r}")
        form = form_of(columns)
        with self._lock:
            before = self._forms.setdefault(client_id, form)
            if (before.num_rows, before.rows) != (form.num_rows, form.rows):
                raise ValueError(
                    f"client {client_id!r} had {describe(before)} when it was first loaded and now "
                    f"has {describe(form)}: expected load to return the same columns each time"
                )
            if (cached := self._cache.get(client_id)) is not None:
                return cached
            self._cache.add(client_id, columns, form.num_bytes)
            return columns

    def schema(self) -> "dict[str, Column] | None":
        """Returns the schema of all clients if it is known without loading any of them."""
        return self._schema

    def form(self, client_id: str) -> Form:
        """Returns the form of a client's columns. The client is loaded at most once for this."""
        if (form := self._forms.get(client_id)) is None:
            self.read(client_id)
            form = self._forms.get(client_id)
            assert form is not None
        return form


class _Forms:
    """client id -> `Form`. Clients have few different forms; each is stored once."""

    def __init__(self, client_ids: IndexedIds | None):
        self._client_ids = client_ids
        self._different: dict[Form, int] = {}
        self._all: list[Form] = []
        # For each client, 1 + the number of its form.
        self._numbers: Any = {}
        if client_ids is not None:
            self._numbers = array.array("i", bytes(4 * client_ids.num_places))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, client_id: str) -> Form | None:
        if self._client_ids is None:
            number = self._numbers.get(client_id, 0)
        else:
            number = self._numbers[self._client_ids.place(client_id)]
        return self._all[number - 1] if number else None

    def setdefault(self, client_id: str, form: Form) -> Form:
        if (before := self.get(client_id)) is not None:
            return before
        if form not in self._different:
            self._all.append(form)
            self._different[form] = len(self._all)
        key = client_id if self._client_ids is None else self._client_ids.place(client_id)
        self._numbers[key] = self._different[form]
        return form


def describe(form: Form) -> str:
    """Describes a form in an error message.

    Example:
      >>> describe(Form(3, 12, (("x", np.dtype("float32"), (2,)),)))
      '3 examples of x: float32 [2]'
    """
    return f"{form.num_rows} examples of " + ", ".join(
        f"{name}: {dtype} {list(shape)}" for name, dtype, shape in form.rows
    )


def form_of(columns: Mapping[str, np.ndarray]) -> Form:
    """Returns the form of checked columns."""
    rows = tuple((name, array.dtype, array.shape[1:]) for name, array in columns.items())
    return Form(num_rows(columns), num_bytes(columns), rows)
