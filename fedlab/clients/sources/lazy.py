"""Clients that are read from files when they are used."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import roles as roles_lib
from fedlab.clients.sources.source import Source
from fedlab.clients.store import CACHE_BYTES, Store


def clients(
    client_ids: Sequence[str],
    load: Callable[[str], Mapping[str, np.ndarray]],
    source: Source,
    *,
    x: roles_lib.Inputs = None,
    y: roles_lib.Inputs = None,
    keep: Sequence[str] = (),
) -> ClientData:
    """Makes a ClientData of clients that are read when they are used.

    Args:
      client_ids: the ids.
      load: client id -> columns, under the names that they have in the file.
      source: where the data comes from.
      x, y, keep: as in `ClientData.from_dataframe`; with neither `x` nor `y`, the
        columns keep their names. With only `y`, the other column is `x`; if there are
        several, they keep their names.

    Returns:
      A ClientData with a cache of 1 GiB. Reading a client raises ValueError if it has
      no examples, or if a row has no value.
    """
    if x is None and y is None and not keep:
        outputs = None
    else:
        names = list(load(client_ids[0]))
        if x is None:
            others = roles_lib.find(names, source.name, client=None, y=y, keep=keep).outputs[0]
            rest = others.sources
            x = rest[0] if len(rest) == 1 else {name: name for name in rest}
        outputs = roles_lib.find(names, source.name, client=None, x=x, y=y, keep=keep).outputs

    def read(client_id: str) -> Mapping[str, np.ndarray]:
        columns = load(client_id)
        owner = f"{source.name}, client {client_id!r}"
        if outputs is not None:
            columns = roles_lib.arrange(outputs, _all_of(columns, outputs, owner), owner)
        _check_rows(columns, owner)
        return columns

    return ClientData._of_store(client_ids, Store(read, CACHE_BYTES), source)


def invalid_rows(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns which rows have NaN or None in a column: [n] bool.

    Example:
      >>> invalid_rows({"x": np.array([[1.0, np.nan], [2.0, 3.0]])})
      array([ True, False])
    """
    invalid = np.zeros(len(next(iter(columns.values()))), bool)
    for array in columns.values():
        rows = array.reshape(len(array), -1) if array.size else np.zeros([len(array), 0])
        if array.dtype.kind == "f":
            invalid |= np.isnan(rows).any(axis=1)
        elif array.dtype == object:
            invalid |= np.array([any(v is None or v != v for v in row) for row in rows], bool)
    return invalid


def _check_rows(columns: Mapping[str, np.ndarray], owner: str) -> None:
    if not all(map(len, columns.values())):
        raise ValueError(
            f"{owner} has no examples: expected at least one; pass skip_invalid=True to leave "
            "such clients out"
        )
    invalid = invalid_rows(columns)
    if invalid.any():
        row = int(np.argmax(invalid))
        name = next(name for name, array in columns.items() if invalid_rows({name: array})[row])
        raise ValueError(
            f"{owner}, row {row} (counted from 0): column {name!r} has no value: expected a value "
            "in every row; correct the file"
        )


def _all_of(
    columns: Mapping[str, np.ndarray], outputs: Sequence[roles_lib.Output], owner: str
) -> Mapping[str, np.ndarray]:
    for output in outputs:
        for name in output.sources:
            if name not in columns:
                raise ValueError(
                    f"{owner} has the columns {list(columns)}: expected {name!r} as well, as the "
                    "first client has; correct the file"
                )
    return columns
