"""Splits of clients' data into parts: by client, by example within each client, and by time.

A split is a pure function of the data and a seed. What a client's examples are assigned
to does not depend on the other clients.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import client_ids as ids_lib
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.clients.schema import Column
from fedlab.clients.store import Form, Store

_WAYS = ("client", "example", "time")


def split(
    clients: ClientData,
    fractions: Any,
    by: str,
    column: str | None,
    at: Any,
    seed: int,
) -> tuple[ClientData, ...]:
    """Splits clients' data; see `ClientData.split`."""
    if by not in _WAYS:
        raise _checks.value_error("by", by, "'client', 'example' or 'time'")
    if (column is None) == (by == "time"):
        expected = "the name of the column with the times" if by == "time" else "None"
        raise _checks.value_error("column", column, f"{expected}, since by={by!r}")
    if at is not None and by != "time":
        raise _checks.value_error("at", at, f"None, since by={by!r}")
    if (fractions is None) == (at is None):
        raise ValueError(
            f"fractions={fractions!r:.60}, at={at!r:.60}: expected "
            + ("one of the two" if by == "time" else "fractions, such as 0.2")
        )
    seeding.check_seed(seed)
    if at is not None:
        assert column is not None
        return _of_parts(clients, _ByMoment(column, at))
    shares = _shares(fractions)
    if by == "client":
        return by_client(clients, shares, seed)
    return _of_parts(clients, _ByShare(shares, seed, column))


def by_client(clients: ClientData, shares: Sequence[float], seed: int) -> tuple[ClientData, ...]:
    """Splits the clients into disjoint groups.

    The clients are ranked by sha256("seed/client_id"). The first ones form the last
    group.

    Args:
      clients: the clients, at least as many as groups.
      shares: the groups' shares of the clients, which add up to 1. Every group has at
        least one client.
      seed: any integer.
    """
    num_clients, num_parts = len(clients), len(shares)
    if num_clients < num_parts:
        number = "1 client" if num_clients == 1 else f"{num_clients} clients"
        least = {2: "two", 3: "three"}.get(num_parts, num_parts)
        raise ValueError(f"{number}: expected at least {least} clients to split")
    ranks = ids_lib.ranks(clients.client_ids, prefix=f"{int(seed)}/")
    end, parts = 0, []
    for part in range(num_parts - 1, -1, -1):
        begin = end
        end = round(sum(shares[part:]) * num_clients) if part else num_clients
        end = min(max(begin + 1, end), num_clients - part)
        chosen = ids_lib.take(clients.client_ids, np.sort(ranks[begin:end]))
        parts.append(ClientData._of_store(chosen, clients._store, clients._source))
    return tuple(reversed(parts))


def _of_parts(clients: ClientData, assignment: "_ByShare | _ByMoment") -> tuple[ClientData, ...]:
    stores = (_Part(clients, assignment, part) for part in range(assignment.num_parts))
    return tuple(
        ClientData._of_store(clients.client_ids, store, clients._source) for store in stores
    )


class _ByShare:
    """Assigns shares of each client's examples to the parts, at random or in the order of time.

    Args:
      shares: the shares, which add up to 1.
      seed: 0 or more.
      column: the column with the times, or None for a random order.
    """

    def __init__(self, shares: Sequence[float], seed: int, column: str | None):
        self.num_parts = len(shares)
        self._ends = np.cumsum(shares)[:-1]
        self._seed, self._column = seed, column

    def size(self, client_id: str, num_examples: int, part: int) -> int:
        """The number of the client's examples in a part."""
        ends, _ = self._draw(client_id, num_examples)
        return ends[part + 1] - ends[part]

    def rows(self, client_id: str, columns: dict[str, np.ndarray], part: int) -> np.ndarray:
        """The rows of the client in a part, in increasing order."""
        num_examples = len(next(iter(columns.values())))
        ends, rng = self._draw(client_id, num_examples)
        if self._column is None:
            order = rng.permutation(num_examples)
        else:
            order = np.argsort(_times(client_id, columns, self._column), kind="stable")
        return np.sort(order[ends[part] : ends[part + 1]])

    def _draw(self, client_id: str, num_examples: int) -> tuple[list[int], np.random.Generator]:
        rng = seeding.generator(self._seed, "split", client_id)
        # Rounded up or down at random, so that a share of 0.1 of many clients with three
        # examples each is a tenth of all examples, and not none.
        exact = np.round(self._ends * num_examples, 9)
        ends = np.minimum(np.floor(exact + rng.random()), num_examples).astype(int)
        return [0, *ends.tolist(), num_examples], rng


class _ByMoment:
    """Assigns examples to the parts by points in time.

    Args:
      column: the column with the times.
      at: one point or several in increasing order; a part begins at each of them.
    """

    def __init__(self, column: str, at: Any):
        expected = "a time or a list of times in increasing order, of the type of the column"
        try:
            self._at = np.atleast_1d(np.asarray(at))
            increasing = bool((self._at[:-1] < self._at[1:]).all())
        except (TypeError, ValueError):
            raise _checks.value_error("at", at, expected) from None
        # NaN and NaT differ from themselves.
        if self._at.ndim != 1 or not len(self._at) or (self._at != self._at).any():
            raise _checks.value_error("at", at, expected)
        if not increasing:
            raise _checks.value_error("at", at, expected)
        self.num_parts = len(self._at) + 1
        self._column = column

    def size(self, client_id: str, num_examples: int, part: int) -> None:
        """None: the number of the client's examples in a part depends on their times."""

    def rows(self, client_id: str, columns: dict[str, np.ndarray], part: int) -> np.ndarray:
        """The rows of the client in a part, in increasing order."""
        times = _times(client_id, columns, self._column)
        kinds = {"M": "MU", "m": "m", "O": "USO"}.get(times.dtype.kind, "biuf")
        try:
            if self._at.dtype.kind not in kinds:  # NumPy would compare numbers as texts
                raise TypeError
            at = self._at.astype(times.dtype) if times.dtype.kind in "MO" else self._at
            parts = np.searchsorted(at, times, side="right")
        except (TypeError, ValueError):
            expected = f"times of the type of column {self._column!r}, {times.dtype}"
            raise _checks.value_error("at", self._at.tolist(), expected) from None
        return np.flatnonzero(parts == part)


class _Part(Store):
    """One part of every client's examples.

    Nothing is cached: the rows are selected again from the columns, which the other
    store caches.
    """

    def __init__(self, clients: ClientData, assignment: "_ByShare | _ByMoment", part: int):
        super().__init__(self.read, clients._store.cache_bytes)
        self._clients, self._assignment, self._part = clients, assignment, part

    def read(self, client_id: str) -> dict[str, np.ndarray]:
        """Returns a client's columns in this part, with the dtypes of the schema."""
        columns = self._clients.in_schema(client_id)
        rows = self._assignment.rows(client_id, columns, self._part)
        part = {name: array[rows] for name, array in columns.items()}
        for array in part.values():
            array.flags.writeable = False
        return part

    def form(self, client_id: str) -> Form:
        """Returns the form of a client's columns in this part."""
        form = self._clients._store.form(client_id)
        size = self._assignment.size(client_id, form.num_rows, self._part)
        if size is None:
            columns = self._clients.in_schema(client_id)
            size = len(self._assignment.rows(client_id, columns, self._part))
        num_bytes = form.num_bytes * size // max(1, form.num_rows)
        return form._replace(num_rows=size, num_bytes=num_bytes)

    def schema(self) -> dict[str, Column]:
        """Returns the schema of the whole data, so that all parts have the same."""
        return self._clients.schema


def _shares(fractions: Any) -> tuple[float, ...]:
    """The shares of the parts, from a number or a sequence."""
    if _checks.is_number(fractions):
        held_out = _checks.check_number(
            "fractions", fractions, above=0, below=1, what="such as 0.2"
        )
        return 1 - held_out, held_out
    shares = tuple(fractions) if isinstance(fractions, (Sequence, np.ndarray)) else ()
    if (
        len(shares) < 2
        or not all(_checks.is_number(share) and 0 < share < 1 for share in shares)
        or abs(sum(shares) - 1) > 1e-6
    ):
        expected = (
            "the share to hold out, such as 0.2, or the shares of all parts, such as [0.8, 0.1, "
            "0.1], which add up to 1"
        )
        raise _checks.value_error("fractions", fractions, expected)
    return tuple(float(share) / float(sum(shares)) for share in shares)


def _times(client_id: str, columns: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The column with the times of a client's examples, checked."""
    if name not in columns:
        expected = f"the name of one of the clients' columns {list(columns)}"
        raise _checks.value_error("column", name, expected)
    times = columns[name]
    if times.ndim != 1:
        raise ValueError(
            f"column={name!r}: expected one time per example, got rows of shape "
            f"{list(times.shape[1:])}"
        )
    if times.dtype.kind == "O":
        unordered = np.array([not isinstance(time, type(times[0])) for time in times], bool)
    else:
        unordered = times != times  # NaN and NaT
    if unordered.any():
        row = int(np.argmax(unordered))
        raise ValueError(
            f"client {client_id!r} has {name}={times[row]!r} in example {row}: expected a time; "
            "remove such examples with ClientData.map"
        )
    return times
