"""What must hold for every data set."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np

from fedlab import _checks
from fedlab.clients import ClientData
from fedlab.clients.columns import keras_batch, num_rows, targets
from fedlab.testing._check import check

_Pair = tuple[ClientData, ClientData]


def check_dataset(
    load: Callable[[], _Pair],
    synthetic: Callable[..., _Pair] | None = None,
    *,
    disjoint: str | None = "examples",
    max_clients: int = 50,
) -> None:
    """Checks that a data set is what `fedlab.simulate` and its readers expect.

    - `load` returns (train, test), two `ClientData`. Loaded again, they have the same
      clients in the same order, with the same values.
    - Every client has an example. Its columns are numeric, finite and equally long,
      with targets and at least one other column. Their names, dtypes and numbers of
      dimensions are the same for all clients, in train and in test.
    - Clients give the same columns when they are read again, in another order, and by
      several threads at once.
    - Train and test are disjoint, as far as `disjoint` says.
    - `to_dataset` yields the columns.
    - `synthetic` needs no network. It has the form of `load`. Its values depend on the
      seed, and those of client i on nothing but the seed and i.

    Args:
      load: a function without arguments, such as
        `functools.partial(fedlab.datasets.squad.load, path="squad")`.
      synthetic: the data set's synthetic variant, a function with the arguments
        `num_clients` and `seed`; or None.
      disjoint: "clients" if train and test share no client, "examples" if a client
        shares no row between train and test (default), or None.
      max_clients: how many clients of each part are read, 2 or more.

    Raises:
      AssertionError: the message says what does not hold.
      TypeError, ValueError: an argument is wrong.

    Example:
      >>> from fedlab.datasets import shakespeare
      >>> check_dataset(shakespeare.synthetic, shakespeare.synthetic)
    """
    if not callable(load):
        raise _checks.type_error("load", load, "a function () -> (train, test)")
    if disjoint not in ("clients", "examples", None):
        raise _checks.value_error("disjoint", disjoint, "'clients', 'examples' or None")
    _checks.check_int("max_clients", max_clients, 2)
    loaded = _parts("load", load())
    for name, clients in loaded.items():
        _check_clients(name, clients, _some(clients, max_clients))
    _check_same(loaded, _parts("load", load()), max_clients, "load gives, when called again,")
    train, test = loaded["train"], loaded["test"]
    check(
        _form(train) == _form(test),
        f"test has the columns {_form(test)}: expected {_form(train)}, as train",
    )
    _check_disjoint(train, test, disjoint, max_clients)
    if synthetic is not None:
        _check_synthetic(synthetic, train, max_clients)


def _parts(name: str, parts: Any) -> dict[str, ClientData]:
    is_pair = isinstance(parts, tuple) and len(parts) == 2
    check(
        is_pair and all(isinstance(part, ClientData) for part in parts),
        f"{name} returns {_checks.kind(parts)}: expected (train, test), a tuple of two ClientData",
    )
    return dict(zip(("train", "test"), parts))


def _some(clients: ClientData, most: int) -> list[str]:
    """At most so many client ids, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(clients) - 1, min(most, len(clients)))
    return [clients.client_ids[int(place)] for place in places]


def _check_clients(part: str, clients: ClientData, client_ids: Sequence[str]) -> None:
    schema = clients.schema
    for client_id in client_ids:
        columns, who = clients[client_id], f"client {client_id!r} of {part}"
        check(num_rows(columns) > 0, f"{who} has no example: leave it out")
        check(
            clients.num_examples(client_id) == num_rows(columns),
            f"{who} has {num_rows(columns)} rows, but num_examples is "
            f"{clients.num_examples(client_id)}",
        )
        check(
            bool(targets(columns)), f"{who} has the columns {list(columns)}: expected a column 'y'"
        )
        keras_batch(columns)
        for name, column in columns.items():
            check(
                column.dtype == schema[name].dtype,
                f"{who} has column {name!r} of {column.dtype}: expected {schema[name].dtype}, as "
                "other clients",
            )
            check(
                column.dtype.kind in "biuf",
                f"{who} has column {name!r} of {column.dtype}: expected numbers",
            )
            check(
                bool(np.isfinite(column).all()),
                f"{who} has NaN or infinity in column {name!r}: expected finite numbers",
            )
        if "sample_weight" in columns:
            weights = columns["sample_weight"]
            check(
                bool((weights >= 0).all() and (weights > 0).any()),
                f"{who} has a sample_weight below 0, or none above 0",
            )
    first = {client_id: clients[client_id] for client_id in client_ids}
    with ThreadPoolExecutor(4) as threads:
        again = dict(zip(client_ids[::-1], threads.map(clients.__getitem__, client_ids[::-1])))
    for client_id in client_ids:
        check(
            _equal(first[client_id], again[client_id]),
            f"client {client_id!r} of {part} has other values when it is read again",
        )
    _check_to_dataset(part, clients, client_ids[:2])


def _check_to_dataset(part: str, clients: ClientData, client_ids: Sequence[str]) -> None:
    import tensorflow as tf

    same_shape = not any(column.is_open for column in clients.schema.values())
    chosen = client_ids if same_shape else client_ids[:1]
    batches = list(clients.to_dataset(batch_size=3, client_ids=chosen))
    joined = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
    expected = keras_batch(clients.to_arrays(chosen))
    pairs = zip(tf.nest.flatten(joined), tf.nest.flatten(expected), strict=True)
    check(
        all(np.array_equal(a, b) for a, b in pairs),
        f"to_dataset of {part} gives other values than the columns of its clients",
    )


def _check_disjoint(
    train: ClientData, test: ClientData, disjoint: str | None, max_clients: int
) -> None:
    shared = [client_id for client_id in test if client_id in train]
    if disjoint == "clients":
        check(not shared, f"train and test share clients, such as {shared[:3]}")
    if disjoint == "examples":
        for client_id in shared[:max_clients]:
            check(
                not (_rows(train[client_id]) & _rows(test[client_id])),
                f"client {client_id!r} has the same example in train and in test",
            )


def _check_synthetic(synthetic: Callable[..., _Pair], train: ClientData, max_clients: int) -> None:
    def make(**arguments: int) -> dict[str, ClientData]:
        with _offline():
            parts = _parts("synthetic", synthetic(**arguments))
            for clients in parts.values():
                for client_id in clients:
                    clients[client_id]
        return parts

    parts = make(num_clients=4, seed=1)
    for name, clients in parts.items():
        _check_clients(f"synthetic {name}", clients, _some(clients, max_clients))
        check(
            _form(clients) == _form(train),
            f"synthetic {name} has the columns {_form(clients)}: expected {_form(train)}, as load",
        )
    check(
        len(parts["train"]) == 4,
        f"synthetic(num_clients=4) has {len(parts['train'])} clients in train: expected 4",
    )
    again = make(num_clients=4, seed=1)
    _check_same(parts, again, max_clients, "synthetic gives, for the same seed,")
    one, other = parts["train"], make(num_clients=4, seed=2)["train"]
    check(
        one.fingerprint() != other.fingerprint(),
        "synthetic gives the same values for the seeds 1 and 2",
    )
    more = make(num_clients=5, seed=1)["train"]
    for client_id in one:
        check(
            client_id in more and _equal(one[client_id], more[client_id]),
            f"client {client_id!r} of synthetic changes with num_clients",
        )


def _check_same(
    first: dict[str, ClientData], second: dict[str, ClientData], max_clients: int, what: str
) -> None:
    for name, clients in first.items():
        check(
            clients.client_ids == second[name].client_ids,
            f"{what} other client ids in {name}, or in another order",
        )
        for client_id in _some(clients, max_clients):
            check(
                _equal(clients[client_id], second[name][client_id]),
                f"{what} other values for client {client_id!r} of {name}",
            )


def _form(clients: ClientData) -> dict[str, str]:
    """Column name -> dtype and number of dimensions; the lengths of rows are options."""
    return {
        name: f"{column.dtype}, {1 + len(column.shape)} dimensions"
        for name, column in clients.schema.items()
    }


def _rows(columns: dict[str, np.ndarray]) -> set[tuple[bytes, ...]]:
    rows = zip(*columns.values())
    return {tuple(np.asarray(value).tobytes() for value in row) for row in rows}


def _equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return list(first) == list(second) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(first.values(), second.values())
    )


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Raises an error wherever a connection is opened."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("synthetic opens a network connection: expected no access to any")

    with (
        mock.patch.object(socket.socket, "connect", refuse),
        mock.patch.object(socket, "getaddrinfo", refuse),
    ):
        yield
