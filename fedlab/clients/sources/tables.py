"""The one path from a table to clients: values, checks of rows, arrays, rows sorted by client."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import images, values
from fedlab.clients.sources.roles import Output, Roles
from fedlab.clients.sources.source import Source
from fedlab.clients.sources.values import Column, Values

logger = logging.getLogger(__name__)

Partitioner = Callable[[Any], Any] | Mapping[str, Any]

MISSING = "rows with a missing value"
OTHER_TYPE = "rows with a value of another type"
OTHER_LENGTH = "rows with a list of another length"
UNKNOWN_CLASS = "rows of an unknown class"
NOT_READ = "rows that cannot be read"
EMPTY_CLIENTS = "clients without a valid row"

_NUMBERS = ("number", "true or false")
_SKIP = "pass skip_invalid=True to skip such rows"


def row_number(row: int) -> str:
    """Returns what error messages call a row of a table without lines.

    Example:
      >>> row_number(7)
      'row 7 (counted from 0)'
    """
    return f"row {row} (counted from 0)"


class Table(NamedTuple):
    """The columns of a table that are used.

    Attributes:
      name: what to call it in error messages, such as "ratings.csv".
      columns: name -> column.
      num_rows: the number of rows.
      where: row -> where it is, such as "line 8".
      skipped: reason -> rows that were left out when the table was read.
      class_names: the names of the classes, if the source has them.
      ids: the column with the client ids, if it differs from that in `columns`.
    """

    name: str
    columns: Mapping[str, Column]
    num_rows: int
    where: Callable[[int], str] = row_number
    skipped: Mapping[str, int] = {}
    class_names: tuple[str, ...] = ()
    ids: Column | None = None


class _Problem(NamedTuple):
    """Rows that are not valid for one reason."""

    reason: str
    rows: np.ndarray  # [n] bool
    message: Callable[[int], str]  # row -> what is wrong, and what was expected


def clients(
    table: Table,
    roles: Roles,
    *,
    partitioner: Partitioner | None = None,
    class_names: Sequence[str] | None = None,
    skip_invalid: bool = False,
    image_size: tuple[int, int] | None = None,
) -> ClientData:
    """Makes a ClientData of a table. Clients are in the order of their first row.

    The rows of a client stay in their order.

    Args:
      table: the table, with the columns `roles.used`.
      roles: the roles of the columns.
      partitioner: divides the rows if there is no column of client ids; see
        `fedlab.clients.partitioners`. It gets the columns made here.
      class_names: the texts of `y` in the order of the class numbers that replace them.
      skip_invalid: whether to skip rows that are not valid, and count them in
        `ClientData.source`.
      image_size: (height, width) that images are resized to.

    Raises:
      ValueError: a row is not valid, and `skip_invalid` is False; no row is left; or
        the columns' values do not fit their roles.
    """
    check_one_of(roles.client, partitioner)
    images.check_size(image_size)
    if not table.num_rows:
        raise ValueError(f"{table.name} has no rows: expected at least one row below the names")
    read = {
        name: values.to_values(column, f"{table.name}: column {name!r}", image_size)
        for name, column in table.columns.items()
        if name != roles.client or any(name in output.sources for output in roles.outputs)
    }
    problems = [problem for name in read for problem in _problems(name, read[name], table)]
    columns: dict[str, np.ndarray] = {}
    names = table.class_names
    for output in roles.outputs:
        _check_kinds(output, read, table.name)
    if class_names is not None:
        names = checked_class_names(class_names)
        target = next((o.sources[0] for o in roles.outputs if o.name == "y"), None)
        if target is None or read[target].kind != "text":
            raise ValueError(
                f"class_names={list(names)!r:.80}: expected a column y with texts, but "
                f"{'there is no y' if target is None else f'{target!r} has other values'}; leave "
                "class_names out"
            )
        read[target], problem = _classes(target, read[target], names)
        problems.append(problem)
    codes, ids = np.zeros(table.num_rows, np.int64), ["all"]
    if roles.client is not None:
        codes, ids, more = _client_codes(roles.client, table)
        problems = [*more, *problems]

    valid, skipped = _valid_rows(problems, table, skip_invalid)
    for output in roles.outputs:
        columns[output.name] = _array(output, read, valid, table)
    num_rows = table.num_rows + sum(table.skipped.values())
    if partitioner is not None:
        return _split(columns, partitioner, valid, Source(table.name, num_rows, skipped, names))
    if not valid.all():
        codes, ids = _by_first_row(codes[valid], ids)
    sizes = np.bincount(codes, minlength=len(ids))
    if empty := int((sizes == 0).sum()):
        skipped[EMPTY_CLIENTS] = empty
    source = Source(table.name, num_rows, skipped, names)
    if skipped:
        logger.info("%s: skipped %s", table.name, skipped)
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        columns = {name: array[order] for name, array in columns.items()}
    present = np.flatnonzero(sizes)
    return ClientData._of_rows([ids[code] for code in present], sizes[present], columns, source)


def _split(
    columns: Mapping[str, np.ndarray], partitioner: Partitioner, valid: np.ndarray, source: Source
) -> ClientData:
    """Clients of columns whose rows a partitioner divides.

    The columns have the valid rows. The row numbers of a given partition are those before
    others were left out.
    """
    from fedlab.clients import partitioners

    skipped = dict(source.skipped)
    if not isinstance(partitioner, Mapping) or not skipped:
        partition = partitioners.partition(columns, partitioner)
    elif NOT_READ in skipped:
        raise ValueError(
            f"{source.name}: {skipped[NOT_READ]} rows cannot be read: expected a function as "
            "partitioner, since the row numbers of a partition are then not known; correct the rows"
        )
    else:
        partition = partitioners.partition({"row": np.arange(len(valid))}, partitioner)
        number = np.cumsum(valid) - 1
        given = partition
        partition = {name: number[rows[valid[rows]]] for name, rows in given.items()}
        empty = [name for name, rows in partition.items() if not len(rows) and len(given[name])]
        for name in empty:
            del partition[name]
        if empty:
            skipped[EMPTY_CLIENTS] = len(empty)
    order = np.concatenate(list(partition.values())) if partition else np.zeros(0, np.int64)
    return ClientData._of_rows(
        list(partition),
        np.array([len(rows) for rows in partition.values()], np.int64),
        {name: array[order] for name, array in columns.items()},
        source._replace(skipped=skipped),
    )


def check_one_of(client: str | None, partitioner: Partitioner | None) -> None:
    """Raises an error unless exactly one of the arguments `client` and `partitioner` is given."""
    if (client is None) == (partitioner is None):
        given = "neither is given" if client is None else "both are given"
        raise ValueError(
            f"client={client!r:.80}: expected either the column with the client ids or a "
            f"partitioner, and {given}"
        )


def _valid_rows(
    problems: Sequence[_Problem], table: Table, skip_invalid: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """The rows that are valid, and reason -> how many are not."""
    valid = np.ones(table.num_rows, bool)
    skipped = dict(table.skipped)
    for reason in (MISSING, OTHER_TYPE, OTHER_LENGTH, UNKNOWN_CLASS):
        before = int(valid.sum())
        for problem in problems:
            if problem.reason == reason:
                valid &= ~problem.rows
        if before > valid.sum():
            skipped[reason] = skipped.get(reason, 0) + before - int(valid.sum())
    if not valid.all() and not skip_invalid:
        row = int(np.argmin(valid))
        problem = next(problem for problem in problems if problem.rows[row])
        number = int((~valid).sum())
        others = f" ({number:,} of {table.num_rows:,} rows are not valid)" if number > 1 else ""
        raise ValueError(
            f"{table.name}, {table.where(row)}: {problem.message(row)}; correct it, or {_SKIP}"
            f"{others}"
        )
    if not valid.any():
        raise ValueError(
            f"{table.name}: none of {table.num_rows:,} rows is valid {skipped}: expected at least "
            "one; check the names of the columns, and read it without skip_invalid to see where"
        )
    return valid, skipped


def _problems(name: str, read: Values, table: Table) -> list[_Problem]:
    problems = []
    if read.missing.any():
        message = f"column {name!r} has no value: expected a value in every row"
        problems.append(_Problem(MISSING, read.missing, lambda row: message))
    if read.other_type.any():
        raw = table.columns[name].raw
        kind = {"true or false": "true or false", "text": "texts"}.get(read.kind, f"{read.kind}s")

        def describe(row: int) -> str:
            return (
                f"column {name!r} has the value {raw[row]!r:.60}: expected {kind}, as most rows "
                "have"
            )

        problems.append(_Problem(OTHER_TYPE, read.other_type, describe))
    if read.other_length.any():
        shape = list(read.array.shape[1:])
        length = (
            f"column {name!r} has a list of another length: expected the shape {shape}, as most "
            "rows have"
        )
        problems.append(_Problem(OTHER_LENGTH, read.other_length, lambda row: length))
    return problems


def _classes(name: str, read: Values, names: Sequence[str]) -> tuple[Values, _Problem]:
    """Texts as the numbers of classes."""
    number_of = {class_name: number for number, class_name in enumerate(names)}
    texts = read.array
    numbers = np.array([number_of.get(text, -1) for text in texts.tolist()], np.int64)
    unknown = (numbers < 0) & ~read.missing & ~read.other_type
    message = f"expected one of class_names {list(names)!r:.200}"
    problem = _Problem(
        UNKNOWN_CLASS,
        unknown,
        lambda row: f"column {name!r} has the class {texts[row]!r:.60}: {message}",
    )
    return read._replace(array=numbers, kind="number"), problem


def checked_class_names(class_names: Any) -> tuple[str, ...]:
    """Returns the argument `class_names`.

    Raises:
      ValueError: not a list of unique texts.

    Example:
      >>> checked_class_names(["cat", "dog"])
      ('cat', 'dog')
    """
    try:
        names = tuple(class_names)
    except TypeError:
        names = ()
    if (
        isinstance(class_names, str)
        or not names
        or len(set(names)) < len(names)
        or not all(isinstance(name, str) for name in names)
    ):
        raise _checks.value_error("class_names", class_names, "a list of unique texts")
    return names


def _client_codes(client: str, table: Table) -> tuple[np.ndarray, list[str], list[_Problem]]:
    """The number of each row's client, the ids by number, and rows without a valid id."""
    pa = values.arrow()
    import pyarrow.compute as pc

    column, types = table.ids or table.columns[client], pa.types
    array = column.values
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, np.ndarray) and array.ndim == 1:
        array = pa.array(array, from_pandas=True)
    if not isinstance(array, pa.Array):
        raise _wrong_ids(client, table, f"has arrays of shape {list(array.shape[1:])}")
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    dtype = array.type
    if types.is_binary(dtype) or types.is_large_binary(dtype):  # texts of TensorFlow
        try:
            array = array.cast(pa.large_string())
        except pa.ArrowInvalid:
            raise _wrong_ids(client, table, "has bytes that are not UTF-8") from None
        dtype = array.type
    if types.is_floating(dtype):
        # What pandas makes of integers beside a missing value.
        array = array.cast(pa.float64())
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
        numbers = np.asarray(array.fill_null(0))
        if (wrong := (numbers != np.floor(numbers)) | (np.abs(numbers) >= 2**53)).any():
            row = int(np.argmax(wrong))
            raise _wrong_ids(client, table, f"has {float(numbers[row])} in {table.where(row)}")
        array = array.cast(pa.int64())
    elif not (
        types.is_integer(dtype)
        or types.is_boolean(dtype)
        or types.is_date(dtype)
        or types.is_null(dtype)
        or values.is_text(dtype)
    ):
        raise _wrong_ids(client, table, f"has values of the Arrow type {dtype}")
    encoded = array.cast(pa.large_string()).dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    ids = encoded.dictionary.to_pylist()
    codes = np.asarray(encoded.indices.fill_null(0)).astype(np.int64)
    missing = np.asarray(encoded.is_null())
    if "" in ids:
        missing = missing | (codes == ids.index(""))
    other_type = np.zeros(len(missing), bool) if column.other_type is None else column.other_type
    kind = "text" if values.is_text(dtype) else "number"
    read = Values(codes, kind, missing & ~other_type, other_type, np.zeros_like(missing))
    valid = ~(missing | other_type)
    # Ids that only rows without a valid id have, such as "", are not clients.
    used = np.zeros(len(ids) or 1, bool)
    used[codes[valid]] = True
    renumbered = np.maximum(np.cumsum(used) - 1, 0)[codes] if ids else codes
    named = [name for name, each in zip(ids, used) if each] or ["none"]
    return renumbered, named, _problems(client, read, table)


def _by_first_row(codes: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Numbers clients in the order of their first row; those without a row come last."""
    first = np.full(len(ids), len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of equal indices, the last one remains
    order = np.argsort(first, kind="stable")
    number = np.empty_like(order)
    number[order] = np.arange(len(ids))
    return number[codes], [ids[i] for i in order]


def _wrong_ids(client: str, table: Table, what: str) -> ValueError:
    return ValueError(
        f"client={client!r}: the column of {table.name} {what}: expected integers or texts, the "
        "ids of the clients"
    )


def _check_kinds(output: Output, read: Mapping[str, Values], owner: str) -> None:
    for name in output.sources:
        kind = read[name].kind
        if kind == "date" and output.name in ("x", "y", "sample_weight"):
            raise ValueError(
                f"{owner}: column {name!r} has dates: expected numbers or texts for "
                f"{output.name}; convert it to a number, or keep=[{name!r}] keeps it beside x"
            )
        if len(output.sources) > 1 and kind not in _NUMBERS:
            named = ", ".join(f"{each!r}: {each!r}" for each in output.sources[:3])
            raise ValueError(
                f"{owner}: column {name!r} has values of the kind {kind!r}: expected numbers, "
                f"which {output.name} is stacked from; choose other columns, or pass "
                f"{output.name.partition('/')[0]}={{{named}}} for inputs by their names"
            )
        if output.name == "sample_weight" and kind not in _NUMBERS:
            raise ValueError(
                f"{owner}: column {name!r} has values of the kind {kind!r}: expected numbers for "
                "sample_weight; choose another column"
            )


def _array(
    output: Output, read: Mapping[str, Values], valid: np.ndarray, table: Table
) -> np.ndarray:
    """The output's array [number of valid rows, ...]."""
    everything = bool(valid.all())
    chosen = [read[name].array for name in output.sources]
    if not everything:
        chosen = [array[valid] for array in chosen]
    if not output.stacked or (len(chosen) == 1 and read[output.sources[0]].kind not in _NUMBERS):
        return chosen[0]
    stacked = np.empty([len(chosen[0]), len(chosen)], np.float32)
    for i, (name, array) in enumerate(zip(output.sources, chosen)):
        with np.errstate(over="ignore"):
            stacked[:, i] = array
        inexact = (
            np.isinf(stacked[:, i]) & ~np.isinf(array)
            if array.dtype.kind == "f"
            else stacked[:, i].astype(np.float64) != array.astype(np.float64)
        )
        if inexact.any():
            row = int(np.flatnonzero(valid)[np.argmax(inexact)])
            raise ValueError(
                f"{table.name}, {table.where(row)}: column {name!r} has the value "
                f"{array[np.argmax(inexact)]}, which float32 cannot represent: expected smaller "
                f"numbers in columns that are stacked; pass {output.name}={name!r} alone, or as an "
                "input by its name"
            )
    return stacked
