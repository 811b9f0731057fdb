"""CSV files as clients.

A CSV file has no types. A column is one of numbers if most of its cells are numbers. Cells
that are empty are missing values, and so are NA, NaN and null in a column of numbers.
"""

import codecs
import contextlib
import csv
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.clients.sources import files, tables, values
from fedlab.clients.sources import roles as roles_lib
from fedlab.clients.sources.values import Column

_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
_MOST_CELL = 2**30


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
    text: Sequence[str] = (),
    delimiter: str = ",",
    encoding: str = "utf-8",
    skip_invalid: bool = False,
) -> ClientData:
    """Makes a ClientData of a CSV file; see `ClientData.from_csv`."""
    tables.check_one_of(client, partitioner)
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise _checks.value_error("delimiter", delimiter, "one character, such as ',' or '\\t'")
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError):
        expected = "the name of an encoding, such as 'utf-8' or 'latin-1'"
        raise _checks.value_error("encoding", encoding, expected) from None
    if isinstance(text, str):
        raise _checks.type_error("text", text, "a list of names of columns")
    file = _File(files.existing(path, "a CSV file"), delimiter, encoding)
    names = file.header()
    roles = roles_lib.find(
        names, file.name, client=client, x=x, y=y, sample_weight=sample_weight, keep=keep
    )
    for name in text:
        if name not in names:
            raise roles_lib.unknown_column("text", name, names, file.name)
    as_text = [name for name in roles.used if name == client or name in text]
    table, num_cut = _read(file, roles.used, as_text, skip_invalid)
    columns = {name: _column(table.column(name), is_text=name in text) for name in roles.used}
    # As written, such as 007; a column that is an input as well may be one of numbers.
    ids = None if client is None else _column(table.column(client), is_text=True)
    return tables.clients(
        tables.Table(
            file.name,
            columns,
            table.num_rows,
            lambda row: f"line {file.line(row)}",
            {tables.NOT_READ: num_cut} if num_cut else {},
            ids=ids,
        ),
        roles,
        partitioner=partitioner,
        class_names=class_names,
        skip_invalid=skip_invalid,
    )


class _File:
    """A CSV file as Python reads it: for its header and for line numbers."""

    def __init__(self, path: pathlib.Path, delimiter: str, encoding: str):
        self.path, self.name = path, path.name
        self.delimiter, self.encoding = delimiter, encoding

    def header(self) -> list[str]:
        """The names of the columns.

        Raises:
          ValueError: the file is empty, or is not a text of this encoding.
        """
        with self._records() as records:
            _, names = next(records, (0, []))
        if not names:
            raise ValueError(f"{self.name} is empty: expected a line with the names of columns")
        self._num_columns = len(names)
        return names

    def line(self, row: int) -> int:
        """The line on which a row begins."""
        with self._records() as records:
            next(records)
            complete = (line for line, cells in records if len(cells) == self._num_columns)
            return next(line for number, line in enumerate(complete) if number == row)

    def cut(self) -> tuple[int, int] | None:
        """The line and the number of cells of the first row that has not as many as the header."""
        with self._records() as records:
            next(records)
            cuts = ((line, len(cells)) for line, cells in records)
            return next((cut for cut in cuts if cut[1] != self._num_columns), None)

    @contextlib.contextmanager
    def _records(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        pa = values.arrow()
        encoding = "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding
        limit = csv.field_size_limit(_MOST_CELL)
        try:
            with (
                pa.input_stream(str(self.path), compression="detect") as binary,
                io.TextIOWrapper(binary, encoding, newline="") as lines,
            ):
                yield self._numbered(lines)
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.name} is not text of the encoding {self.encoding}: expected the file's "
                "encoding; pass another one, such as encoding='latin-1'"
            ) from None
        except (csv.Error, OSError) as error:
            if isinstance(error, PermissionError):
                raise
            raise ValueError(
                f"{self.name} is damaged or in another format ({error}): expected a CSV file; "
                "check the path"
            ) from error
        finally:
            csv.field_size_limit(limit)

    def _numbered(self, lines: Any) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(lines, delimiter=self.delimiter)
        end = 0
        for cells in reader:
            if cells:
                yield end + 1, cells
            end = reader.line_num


def _read(
    file: _File, used: Sequence[str], as_text: Sequence[str], skip_invalid: bool
) -> tuple[Any, int]:
    """The Arrow table, and the number of rows that were left out because of missing cells."""
    pa = values.arrow()
    import pyarrow.csv as pacsv

    num_cut = 0

    def skip(row: Any) -> str:
        nonlocal num_cut
        num_cut += 1
        return "skip"

    try:
        table = pacsv.read_csv(
            str(file.path),
            pacsv.ReadOptions(encoding=file.encoding),
            pacsv.ParseOptions(
                delimiter=file.delimiter,
                newlines_in_values=True,
                invalid_row_handler=skip if skip_invalid else None,
            ),
            pacsv.ConvertOptions(
                include_columns=list(used), column_types={name: pa.string() for name in as_text}
            ),
        )
    except pa.ArrowInvalid as error:
        if (cut := file.cut()) is not None:
            raise ValueError(
                f"{file.name}, line {cut[0]}: a row of {cut[1]} cells: expected "
                f"{file._num_columns}, as the header has; correct it, quote cells that contain "
                f"{file.delimiter!r}, or pass skip_invalid=True to skip such rows"
            ) from None
        raise ValueError(
            f"{file.name} is damaged or in another format: expected a CSV file; check the path, "
            "the delimiter and the encoding"
        ) from error
    return table, num_cut


def _column(array: Any, is_text: bool) -> Column:
    """A column with null for empty cells, and for texts in a column of numbers."""
    pa = values.arrow()
    import pyarrow.compute as pc

    if not values.is_text(array.type):
        return Column(array)
    array = array.combine_chunks()
    empty = pc.equal(array, "")
    array = pc.if_else(empty, pa.scalar(None, array.type), array)
    if is_text:
        return Column(array)
    number = pc.fill_null(pc.match_substring_regex(array, _NUMBER), False)
    num_numbers, num_values = pc.sum(number).as_py() or 0, len(array) - array.null_count
    if 2 * num_numbers <= num_values or not num_numbers:
        return Column(array)
    import pyarrow.csv as pacsv

    is_null = pc.is_in(array, pa.array(pacsv.ConvertOptions().null_values, array.type))
    other_type = np.asarray(pc.invert(pc.or_(pc.or_(number, array.is_null()), is_null)))
    numbers = pc.utf8_trim_whitespace(pc.if_else(number, array, pa.scalar(None, array.type)))
    try:
        converted = numbers.cast(pa.int64())
    except pa.ArrowInvalid:
        converted = numbers.cast(pa.float64())
    return Column(converted, other_type if other_type.any() else None, array.to_pylist())
