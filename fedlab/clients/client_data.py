"""ClientData: the examples of every client as NumPy columns, read when needed."""

import difflib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab._text import is_unicode
from fedlab.clients import columns as columns_lib
from fedlab.clients import fingerprint
from fedlab.clients import schema as schema_lib
from fedlab.clients.store import CACHE_BYTES, Store

Columns = Mapping[str, Any]

SAMPLED_CLIENTS, SAMPLED_BYTES = (
    4000,
    2**30,
)  # how much of data that have to be loaded is read before the first round


class ClientData:
    """The examples of every client, as columns name -> [n, ...].

    A client is loaded on first use and checked. The clients used last are kept in memory, up to `cache_bytes`; a client
    that is no longer kept is loaded again. Objects made by `select` and `split_clients` share their cache with this one;
    those made by `map` have one that holds the function's results, with the same bound. Clients of `from_dict` are in
    memory anyway: they are not copied and do not count.

    Nothing here needs TensorFlow but `to_dataset` and the conversions from and to `tf.data` and TensorFlow Federated,
    which import it when called.

    Args:
      client_ids: the clients, in the order that every method keeps. Unique, not empty.
      load: client_id -> columns, name -> array-like [n, ...]. It must return the same columns each time. Several threads
        may call it at once.
      cache_bytes: how many bytes of loaded columns are kept; 0 or more, 1 GiB by default, None for no bound. While clients
        train, the columns of the clients at work are in memory too.

    Raises:
      ValueError: no client ids, or one of them twice.
      TypeError: a client id is not a string.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"x": [[1.0], [2.0]], "y": [0, 1]}, "bob": {"x": [[3.0]], "y": [1]}})
      >>> len(clients), clients.num_examples("ann"), clients["bob"]["y"]
      (2, 2, array([1]))
    """

    def __init__(
        self,
        client_ids: Iterable[str],
        load: Callable[[str], Columns],
        *,
        cache_bytes: int | None = CACHE_BYTES,
    ):
        if not callable(load):
            raise TypeError(
                f"load is {_checks.kind(load)}; allowed: a function client_id -> columns, or use ClientData.from_dict."
            )
        if cache_bytes is not None:
            _checks.check_int("cache_bytes", cache_bytes, 0, what="or None for no limit")
        self._set(client_ids, Store(load, cache_bytes))

    @classmethod
    def _of_store(cls, client_ids: Iterable[str], store: Store) -> "ClientData":
        clients = cls.__new__(cls)
        clients._set(client_ids, store)
        return clients

    def _set(self, client_ids, store):
        self._client_ids = _checked_ids(client_ids)
        self._members = frozenset(self._client_ids)
        self._store = store
        self._schema: dict[str, schema_lib.Column] | None = None
        self._fingerprint: str | None = None

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Columns]) -> "ClientData":
        """Makes a ClientData of client_id -> columns.

        Args:
          mapping: client_id -> name -> array-like [n, ...].

        Returns:
          A ClientData with the clients in the mapping's order.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1, 2]}}).client_ids
          ('ann',)
        """
        if not isinstance(mapping, Mapping):
            raise TypeError(
                f"received {type(mapping).__name__}; allowed: a mapping client_id -> columns, such as {{'ann': {{'x': [1.0]}}}}."
            )
        mapping = dict(mapping)
        return cls._of_store(mapping, Store(mapping.__getitem__, in_memory=True))

    @classmethod
    def from_dataset(cls, datasets: Any, client_ids: Iterable[str] | None = None) -> "ClientData":
        """Makes a ClientData of one unbatched `tf.data.Dataset` a client.

        Args:
          datasets: client_id -> tf.data.Dataset, as a mapping or a function. An element is a dict of columns, a
            tuple (x,), (x, y) or (x, y, sample_weight) where x may be a dict of columns, or a tensor x.
          client_ids: the clients; needed with a function, by default the mapping's keys.

        Returns:
          A ClientData that reads a client's dataset on first use.

        Raises:
          ValueError: a function without client_ids, or (on reading) a dataset whose elements are no columns.

        Example:
          >>> import tensorflow as tf
          >>> ClientData.from_dataset({"ann": tf.data.Dataset.range(3)})["ann"]
          {'x': array([0, 1, 2])}
        """
        from fedlab.clients import convert

        return convert.from_dataset(datasets, client_ids)

    @classmethod
    def from_tff(cls, tff_client_data: Any) -> "ClientData":
        """Makes a ClientData of a `tff.simulation.datasets.ClientData`, with its client ids in its order.

        Args:
          tff_client_data: TFF's client data; elements as in `from_dataset`. TFF's string columns become object
            arrays of bytes.

        Returns:
          A ClientData that reads a client from TFF on first use.

        Raises:
          TypeError: another kind of object.
          ValueError: (on reading) elements that are no columns.

        Example: see `to_tff`.
        """
        from fedlab.clients import convert

        return convert.from_tff(tff_client_data)

    @property
    def client_ids(self) -> tuple[str, ...]:
        """The clients, in the order given."""
        return self._client_ids

    def __len__(self) -> int:
        return len(self._client_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._client_ids)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._members

    def __repr__(self) -> str:
        first = ", ".join(repr(client_id) for client_id in self._client_ids[:3])
        return f"ClientData({len(self)} clients: {first}{', ...' if len(self) > 3 else ''})"

    def __getitem__(self, client_id: str) -> dict[str, np.ndarray]:
        """Returns one client's columns as they were loaded: name -> read-only array [n, ...].

        Raises:
          KeyError: the client is not here; says how many are, and the closest ids.
          TypeError, ValueError: what was loaded is no mapping of equally long columns.
        """
        return dict(self._store.read(self._checked(client_id)))

    def num_examples(self, client_id: str) -> int:
        """Returns n, how many examples the client has.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1, 2]}}).num_examples("ann")
          2
        """
        return self._store.form(self._checked(client_id)).num_rows

    @property
    def schema(self) -> dict[str, schema_lib.Column]:
        """The columns of all clients: name -> `fedlab.clients.schema.Column`, its dtype and the shape of a row.

        One dtype for all clients, which holds every value exactly: int16 where some have int8 and others int16. Sizes in
        which rows differ from client to client are None. Clients without examples follow the others. Models train and are
        evaluated on columns of these dtypes, as `in_schema` gives them, whichever clients come together.

        It is decided once. Clients in memory (`from_dict`) are all looked at. Of others, the first client and more in the
        order of sha256(client_id) are loaded, at most 4,000 clients or 1 GiB; one that is loaded later and does not fit
        is named in an error.

        Raises:
          ValueError: clients differ in the names or the kinds of their columns, or in how many dimensions these have.

        Example:
          >>> clients = ClientData.from_dict({"ann": {"x": np.zeros([2, 3], np.float32)}, "bob": {"x": np.zeros([1, 4])}})
          >>> clients.schema["x"]
          Column(dtype=dtype('float64'), shape=(None,))
        """
        if self._schema is None:
            self._schema = schema_lib.decide(
                (client_id, self._store.form(client_id)) for client_id in self._sample()
            )
        return self._schema

    def in_schema(self, client_id: str) -> dict[str, np.ndarray]:
        """Returns one client's columns as models see them: with the dtypes that `schema` has for all clients.

        Raises:
          KeyError: the client is not here.
          ValueError: as `schema`; or the client, which `schema` has not looked at, does not fit.

        Example:
          >>> clients = ClientData.from_dict({"ann": {"y": np.array([1], np.int8)}, "bob": {"y": np.array([300], np.int16)}})
          >>> clients["ann"]["y"].dtype.name, clients.in_schema("ann")["y"].dtype.name
          ('int8', 'int16')
        """
        return schema_lib.cast(
            self.schema, self._store.read(self._checked(client_id)), client_id, self._client_ids[0]
        )

    def example(self) -> dict[str, np.ndarray]:
        """Returns the columns, as `in_schema` gives them, of the first client that has examples, or of the first client."""
        with_examples = (client_id for client_id in self._sample() if self.num_examples(client_id))
        return self.in_schema(next(with_examples, self._client_ids[0]))

    def map(self, fn: Callable[[dict[str, np.ndarray]], Columns]) -> "ClientData":
        """Returns the same clients with `fn` applied to each one's columns on first use.

        Args:
          fn: columns -> columns; it may change names, shapes and the number of rows. Its input is read-only. It must return
            the same each time: a result that is no longer kept (see `cache_bytes`) is computed again.

        Returns:
          A ClientData with the same client ids.

        Example:
          >>> doubled = ClientData.from_dict({"ann": {"x": [1, 2]}}).map(lambda columns: {"x": columns["x"] * 2})
          >>> doubled["ann"]["x"]
          array([2, 4])
        """
        if not callable(fn):
            raise TypeError(f"received {_checks.kind(fn)}; allowed: a function columns -> columns.")
        return ClientData(
            self._client_ids,
            lambda client_id: fn(self[client_id]),
            cache_bytes=self._store.cache_bytes,
        )

    def with_targets(self, targets: str | Mapping[str, str]) -> "ClientData":
        """Returns the same clients whose inputs are also their targets, for autoencoders. The arrays are not copied.

        Args:
          targets: the name of the column that becomes `y`, such as "x"; or, for a model with several outputs, output name ->
            name of a column.

        Returns:
          A ClientData with the same client ids, and the columns `y`, or `y/NAME` for each output NAME, in place of those that
          there were.

        Raises:
          TypeError: `targets` is neither a text nor a mapping of texts.
          ValueError: (on reading) a client has no such column.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1.0, 2.0]}}).with_targets("x")["ann"]["y"]
          array([1., 2.])
        """
        sources = {"y": targets} if isinstance(targets, str) else targets
        if (
            not isinstance(sources, Mapping)
            or not sources
            or not all(isinstance(t, str) for pair in sources.items() for t in pair)
        ):
            raise TypeError(
                f"targets={targets!r:.60}: expected the name of a column, or a dict, output name -> name of a column."
            )
        if sources is targets:
            sources = {columns_lib.TARGET_OF + output: name for output, name in sources.items()}

        def replaced(columns):
            if missing := [name for name in sources.values() if name not in columns]:
                raise ValueError(
                    f"targets={targets!r:.60}: expected columns of the clients, which have {list(columns)}; {missing[0]!r} is none."
                )
            inputs = {
                name: column
                for name, column in columns.items()
                if name not in columns_lib.targets(columns)
            }
            return inputs | {target: columns[name] for target, name in sources.items()}

        return self.map(replaced)

    def select(self, client_ids: Iterable[str]) -> "ClientData":
        """Returns only these clients, in this order.

        Args:
          client_ids: some of this object's clients, each once.

        Raises:
          KeyError: a client that is not here.
          ValueError: none, or one twice.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1]}, "bob": {"x": [2]}}).select(["bob"]).client_ids
          ('bob',)
        """
        chosen = _checked_ids(client_ids)
        for client_id in chosen:
            self._checked(client_id)
        return ClientData._of_store(chosen, self._store)

    def split_clients(self, fraction: float, seed: int) -> tuple["ClientData", "ClientData"]:
        """Splits the clients in two disjoint groups: those to train on, and those held out.

        A pure function of the set of client ids and the seed, the same on every machine: the clients are ranked by
        sha256("seed/client_id") and the first round(fraction * len) of them, at least one, are held out. So a client
        keeps its rank when others join or leave.

        Args:
          fraction: share of the clients to hold out, in (0, 1).
          seed: any integer.

        Returns:
          (kept, held_out), each in the order of `client_ids`.

        Raises:
          ValueError: the fraction is outside (0, 1), or there are fewer than two clients.

        Example:
          >>> clients = ClientData.from_dict({name: {"x": [1]} for name in "abcdefghij"})
          >>> kept, held_out = clients.split_clients(0.2, seed=0)
          >>> len(kept), len(held_out)
          (8, 2)
        """
        if not _checks.is_int(seed):
            raise _checks.value_error("seed", seed, "an integer")
        _checks.check_number("fraction", fraction, above=0, below=1, what="such as 0.1")
        if len(self) < 2:
            raise ValueError(
                f"received {len(self)} client; two groups need at least two; add clients, or do not split."
            )

        def rank(client_id: str) -> bytes:
            return hashlib.sha256(f"{int(seed)}/{client_id}".encode()).digest()

        num_held_out = min(max(1, round(fraction * len(self))), len(self) - 1)
        held_out = set(sorted(self._client_ids, key=rank)[:num_held_out])
        return (
            self.select(client_id for client_id in self._client_ids if client_id not in held_out),
            self.select(client_id for client_id in self._client_ids if client_id in held_out),
        )

    def to_arrays(self, client_ids: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Returns the columns of several clients, one after the other.

        Args:
          client_ids: the clients, in the order wanted; by default all.

        Returns:
          name -> array [sum of n, ...], of the dtypes that `schema` has.

        Raises:
          KeyError: a client that is not here.
          ValueError: no client, two whose rows differ in shape, or what `schema` raises.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1]}, "bob": {"x": [2, 3]}}).to_arrays()
          {'x': array([1, 2, 3])}
        """
        chosen = self._client_ids if client_ids is None else tuple(client_ids)
        if not chosen:
            raise ValueError(
                "received no client ids to concatenate; give at least one, or None for all clients."
            )
        parts = [(client_id, self.in_schema(client_id)) for client_id in chosen]
        # A client without examples has rows of no length where others differ.
        first, expected = next((pair for pair in parts if columns_lib.num_rows(pair[1])), parts[0])
        parts = [pair for pair in parts if columns_lib.num_rows(pair[1])] or parts[:1]
        for client_id, part in parts:
            if _shapes(part) != _shapes(expected):
                raise ValueError(
                    f"client {client_id!r} has rows {_describe(part)}, but client {first!r} has {_describe(expected)}; "
                    "rows of different shapes cannot be concatenated: pad them with map() first."
                )
        return {name: np.concatenate([part[name] for _, part in parts]) for name in self.schema}

    def to_dataset(
        self,
        batch_size: int | None = None,
        client_ids: Iterable[str] | None = None,
        drop_remainder: bool = False,
        input_names: Sequence[str] = (),
    ) -> Any:
        """Returns all examples, client after client, as a `tf.data.Dataset` for Keras.

        Args:
          batch_size: examples a batch; None gives single examples.
          client_ids: the clients, in the order wanted; by default all.
          drop_remainder: whether to leave out a last batch that is not full.
          input_names: the model's `input_names`. Only needed if it has several inputs and one of them is called "x".

        Returns:
          A tf.data.Dataset of (x,), (x, y) or (x, y, sample_weight): see `fedlab.clients.columns.keras_batch`.

        Raises:
          ValueError: batch_size below 1, or what `to_arrays` and `keras_batch` raise.

        Example:
          >>> clients = ClientData.from_dict({"ann": {"x": [[1.0], [2.0]], "y": [0, 1]}})
          >>> for x, y in clients.to_dataset(batch_size=2): print(x.shape, y.numpy())
          (2, 1) [0 1]
        """
        from fedlab.clients import convert

        return convert.to_dataset(self, batch_size, client_ids, drop_remainder, input_names)

    def to_tff(self) -> Any:
        """Returns the clients as a `tff.simulation.datasets.ClientData` whose elements are dicts of columns.

        Ids, names, dtypes and shapes are kept: `ClientData.from_tff(clients.to_tff())` holds the same arrays.
        TFF has one type for all clients, so every client needs the same columns.

        Returns:
          TFF's client data. Simulations read client after client; only TFF computations that look clients up by
          themselves (`serializable_dataset_fn`) put all the data in one graph, so that they suit small data only.

        Raises:
          ModuleNotFoundError: TensorFlow Federated is not installed.

        Example:
          >>> theirs = ClientData.from_dict({"ann": {"x": [1, 2]}}).to_tff()
          >>> theirs.client_ids, ClientData.from_tff(theirs)["ann"]
          (['ann'], {'x': array([1, 2])})
        """
        from fedlab.clients import convert

        return convert.to_tff(self)

    def fingerprint(self) -> str:
        """Returns a hash of the client ids, in their order, and of the clients' columns: names, dtypes, shapes and values.

        Data in memory (`from_dict`, and what is selected from it): all values of the first clients, until 1 GiB has been
        hashed, and of each further client 16 rows in equal steps. Data that have to be loaded (any other): all values of
        every client where there are at most 4,000 clients and 1 GiB; otherwise those of the first client and of others in
        the order of sha256(client_id), until either limit is reached. So any change of ordinary data changes the hash,
        and the cost of large data is bounded.

        Equal data have the same hash in every process. It does not depend on the order of a client's columns, on the
        arrays' memory layout or byte order, or on whether a text is str or UTF-8 bytes.

        Returns:
          64 hexadecimal digits.

        Raises:
          TypeError, ValueError: a client's columns are not valid.

        Example:
          >>> ClientData.from_dict({"ann": {"x": [1, 2]}}).fingerprint()[:16]
          '1946dad0f6fc8ffa'
        """
        if self._store.in_memory:  # the caller may have changed arrays that are not copied
            return fingerprint.fingerprint(self._client_ids, self, self._client_ids)
        if self._fingerprint is None:
            self._fingerprint = fingerprint.fingerprint(self._client_ids, self, self._sample())
        return self._fingerprint

    def _sample(self) -> Iterator[str]:
        """Ids of the clients that are read before the first round: all, or a bounded number of data that have to be loaded."""
        ids = self._client_ids
        if self._store.in_memory:
            yield from ids
            return
        ranked = sorted(ids[1:], key=lambda client_id: hashlib.sha256(client_id.encode()).digest())
        num_bytes = 0
        for client_id in (ids[0], *ranked[: SAMPLED_CLIENTS - 1]):
            if num_bytes >= SAMPLED_BYTES:
                return
            yield client_id
            num_bytes += self._store.form(client_id).num_bytes

    def _checked(self, client_id: str) -> str:
        if client_id not in self._members:
            raise KeyError(self._unknown(client_id))
        return client_id

    def _unknown(self, client_id: object) -> str:
        close = difflib.get_close_matches(str(client_id), self._client_ids, n=3)
        hint = (
            f"; close: {', '.join(map(repr, close))}"
            if close
            else f", such as {self._client_ids[0]!r}"
        )
        return f"received the client id {client_id!r}; allowed are the {len(self)} clients in client_ids{hint}."


def _checked_ids(client_ids: Iterable[str]) -> tuple[str, ...]:
    if isinstance(client_ids, (str, bytes)):
        raise TypeError(
            f"received {client_ids!r} as client ids; allowed is a sequence of strings: [{client_ids!r}]."
        )
    if not isinstance(client_ids, Iterable):
        raise TypeError(
            f"received {client_ids!r:.60} as client ids; allowed is a sequence of strings."
        )
    ids = tuple(client_ids)
    if not ids:
        raise ValueError(
            "received no client ids; at least one is needed; check the data's source or the selection."
        )
    seen: set[str] = set()
    for client_id in ids:
        if not isinstance(client_id, str):
            raise TypeError(
                f"received the client id {client_id!r}; allowed are strings: use str(client_id)."
            )
        if not is_unicode(client_id):
            raise ValueError(
                f"received the client id {client_id!r}; allowed is valid Unicode, not half of a surrogate pair: rename the client."
            )
        if client_id in seen:
            raise ValueError(
                f"received the client id {client_id!r} twice; ids are unique: merge or rename the client."
            )
        seen.add(client_id)
    return ids


def _shapes(columns: Mapping[str, np.ndarray]) -> dict[str, tuple]:
    return {name: array.shape[1:] for name, array in columns.items()}


def _describe(columns: Mapping[str, np.ndarray]) -> str:
    rows = (f"{name}: {array.dtype} {list(array.shape[1:])}" for name, array in columns.items())
    return "{" + ", ".join(rows) + "}"
