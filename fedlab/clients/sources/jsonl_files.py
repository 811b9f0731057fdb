"""Files with one JSON object per line as clients.

Arrow reads such a file if all values of a column have one type. Otherwise Python reads it,
slower, and knows the line of every value.
"""

import gzip
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import files, tables, values
from fedlab.clients.sources import roles as roles_lib
from fedlab.clients.sources.values import Column


def read(
    path: str | os.PathLike,
    client: str | None,
    x: roles_lib.Inputs,
    y: roles_lib.Inputs,
    *,
    sample_weight: str | None = None,
    keep: Sequence[str] = (),
    partitioner: tables.Partitioner | None = None,
    class_names: Sequence[str] | None = None,
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of a JSON Lines file; see `ClientData.from_jsonl`."""
    tables.check_one_of(client, partitioner)
    file = files.existing(path, "a file with a JSON object on each line")
    arrow_table = _arrow_table(file)
    if arrow_table is None:
        names, lists, lines, num_bad = _parse(file, skip_invalid)
    else:
        names = arrow_table.column_names
    roles = roles_lib.find(
        names, file.name, client=client, x=x, y=y, sample_weight=sample_weight, keep=keep
    )
    options: dict[str, Any] = dict(
        partitioner=partitioner, class_names=class_names, skip_invalid=skip_invalid
    )
    if arrow_table is not None:
        columns = {name: Column(arrow_table.column(name)) for name in roles.used}
        table = tables.Table(
            file.name, columns, arrow_table.num_rows, lambda row: f"line {_line(file, row)}"
        )
        return tables.clients(table, roles, **options)
    table = tables.Table(
        file.name,
        {name: values.of_objects(lists[name]) for name in roles.used},
        len(lines),
        lambda row: f"line {lines[row]}",
        {tables.NOT_READ: num_bad} if num_bad else {},
    )
    return tables.clients(table, roles, **options)


def _arrow_table(file: pathlib.Path) -> Any:
    """The table that Arrow reads, or None if Python has to read the file."""
    pa = values.arrow()
    import pyarrow.json as pajson

    try:
        table = pajson.read_json(str(file))
        table.validate(full=True)  # texts are UTF-8
        names = table.column_names
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError):
        return None
    # Arrow takes texts such as "2026-01-31" for time stamps; they have to stay texts.
    if not names or any(pa.types.is_timestamp(dtype) for dtype in table.schema.types):
        return None
    return table


def _parse(
    file: pathlib.Path, skip_invalid: bool
) -> tuple[list[str], dict[str, list[Any]], list[int], int]:
    """The names and values of columns, the lines of rows, and the number of lines left out."""
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    num_bad = 0
    for number, line in _numbered(file):
        try:
            row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_object)
            if not isinstance(row, dict):
                raise ValueError(f"it is a {type(row).__name__}, not an object")
        except (ValueError, RecursionError) as error:
            if skip_invalid:
                num_bad += 1
                continue
            raise ValueError(
                f"{file.name}, line {number} is not valid ({_why(error):.200}): expected a JSON "
                'object, such as {"client": "ann", "x": 1.5, "y": 0}; correct it, or pass '
                "skip_invalid=True to skip such lines"
            ) from None
        for name in row.keys() - columns.keys():
            columns[name] = [None] * len(lines)
        for name, column in columns.items():
            column.append(row.get(name))
        lines.append(number)
    if not lines:
        raise ValueError(
            f"{file.name} has no rows: expected a JSON object on each line; check the path"
        )
    return list(columns), columns, lines, num_bad


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice")
    return row


def _numbered(file: pathlib.Path) -> Any:
    """The lines that are not blank, with their numbers."""
    opened = gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb")
    with opened:
        for number, line in enumerate(opened, 1):
            if line.strip():
                yield number, line


def _line(file: pathlib.Path, row: int) -> int:
    """The number of the line of a row."""
    return next(number for i, (number, _) in enumerate(_numbered(file)) if i == row)
