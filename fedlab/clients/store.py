"""The clients that a `ClientData` has loaded: what they look like is remembered for all, their columns for those used last."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fedlab.clients.columns import check_columns, num_rows

CACHE_BYTES = 2**30
"""The default bound of a `ClientData`'s cache: 1 GiB."""


class Form(NamedTuple):
    """What a client's columns look like.

    Attributes:
      num_rows: the number of examples.
      num_bytes: what the columns take in memory.
      rows: name -> (dtype, shape of a row), as a tuple of pairs.
    """

    num_rows: int
    num_bytes: int
    rows: tuple


class Store:
    """Loads clients and keeps those used last. Safe for use by several threads.

    Args:
      load: client_id -> columns. It has to return the same columns each time: a client that is no longer kept is loaded again.
      cache_bytes: how many bytes of columns are kept; None for no bound. A client that is larger is not kept.
      in_memory: whether the columns are in memory anyway, so that keeping them costs nothing and reading all of them is cheap.
    """

    def __init__(
        self,
        load: Callable[[str], Mapping[str, Any]],
        cache_bytes: int | None = CACHE_BYTES,
        in_memory: bool = False,
    ):
        self.in_memory = in_memory
        self.cache_bytes = cache_bytes
        self._load = load
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, dict[str, np.ndarray]] = (
            OrderedDict()
        )  # the one used last comes last
        self._num_bytes = 0
        self._forms: dict[str, Form] = {}
        self._same_rows: dict[
            tuple, tuple
        ] = {}  # clients have few different forms: each is kept once

    def read(self, client_id: str) -> dict[str, np.ndarray]:
        """A client's checked columns.

        Raises:
          TypeError, ValueError: what was loaded is no mapping of equally long columns, or is not what it was the last time.
        """
        with self._lock:
            if client_id in self._kept:
                self._kept.move_to_end(client_id)
                return self._kept[client_id]
        # Loaded without the lock, so that threads can load different clients at once. Two that load the same one get the same arrays.
        columns = check_columns(self._load(client_id), f"client {client_id!r}")
        form = _form(columns)
        with self._lock:
            before = self._forms.setdefault(
                client_id, form._replace(rows=self._same_rows.setdefault(form.rows, form.rows))
            )
            if (before.num_rows, before.rows) != (form.num_rows, form.rows):
                raise ValueError(
                    f"client {client_id!r} had {describe(before)} when it was loaded first and now has {describe(form)}: "
                    "load has to return the same columns each time."
                )
            return self._keep(client_id, columns, form.num_bytes)

    def form(self, client_id: str) -> Form:
        """What a client's columns look like; it is loaded for that at most once."""
        if client_id not in self._forms:
            self.read(client_id)
        return self._forms[client_id]

    def _keep(self, client_id, columns, num_bytes):
        if client_id in self._kept:
            return self._kept[client_id]
        bound = float("inf") if self.in_memory or self.cache_bytes is None else self.cache_bytes
        if num_bytes <= bound:
            self._kept[client_id] = columns
            self._num_bytes += num_bytes
        while self._num_bytes > bound:
            oldest, _ = self._kept.popitem(last=False)
            self._num_bytes -= self._forms[oldest].num_bytes
        return columns


def describe(form: Form) -> str:
    """A form in words.

    Example:
      >>> describe(Form(3, 12, (("x", np.dtype("float32"), (2,)),)))
      '3 examples of x: float32 [2]'
    """
    return f"{form.num_rows} examples of " + ", ".join(
        f"{name}: {dtype} {list(shape)}" for name, dtype, shape in form.rows
    )


def _form(columns):
    rows = tuple((name, array.dtype, array.shape[1:]) for name, array in columns.items())
    return Form(num_rows(columns), sum(map(_num_bytes, columns.values())), rows)


def _num_bytes(array):
    """Texts are objects: numpy counts their pointers only."""
    return array.nbytes + (
        sum(64 + len(text) for text in array.flat if isinstance(text, (str, bytes)))
        if array.dtype == object
        else 0
    )
