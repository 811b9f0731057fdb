"""Reads clients.sqlite, the tables of a run. No other module that reads runs opens it."""

import collections.abc
import contextlib
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from fedlab import _json
from fedlab.runs import format as run_format
from fedlab.runs.format import CLIENT_COLUMNS, EVALUATION_COLUMNS

FILE = "clients.sqlite"
TABLES = {"clients": CLIENT_COLUMNS, "evaluations": EVALUATION_COLUMNS}
"""The tables of clients.sqlite that hold clients, with their columns."""


def read_tables(path: pathlib.Path) -> tuple["ClientRows", "EvaluationRows"]:
    """Returns the rows of the tables `clients` and `evaluations` of a run folder.

    Both are sequences that read from the file when they are used, so that memory does
    not grow with the number of rounds.
    """
    return ClientRows(path / FILE), EvaluationRows(path / FILE)


def read_rounds(path: pathlib.Path) -> list[tuple[int, float, str]]:
    """Verifies the tables of a run folder and returns its rounds: (round, time, row).

    Raises:
      ValueError: the file is damaged.
    """
    with database(path) as connection:
        connection.execute("BEGIN")  # a simulation may be writing at the same time
        try:
            run_format.verify(connection)
        except ValueError as error:
            raise damaged(path / FILE, error) from None
        return connection.execute("SELECT round, time, row FROM rounds ORDER BY round").fetchall()


@contextlib.contextmanager
def database(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """Opens the tables of a run folder.

    Nothing is written, except that SQLite rolls back a transaction that a killed process
    left unfinished.

    Raises:
      ValueError: the file is damaged.
    """
    file = path / FILE
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
        ) as connection:
            yield connection
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter by SQLite's message
        raise damaged(file, error) from None


def damaged(file: pathlib.Path, reason: Exception) -> ValueError:
    """Returns the error for a damaged file of a run folder."""
    return ValueError(
        f"{file} is damaged ({reason}): restore an undamaged copy or run the simulation again"
    )


class _Rows(collections.abc.Sequence):
    """The rows of a table as dicts in the order written, read from the file when used.

    Args:
      file: clients.sqlite.
    """

    _table: str

    def __init__(self, file: pathlib.Path):
        self.file = pathlib.Path(file)

    def __len__(self) -> int:
        return self._query("SELECT COUNT(*) FROM {}")[0][0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # By round: the file may be large, and it is not locked while the caller works.
        for (round_num,) in self._query("SELECT DISTINCT round FROM {} ORDER BY round"):
            query = "SELECT * FROM {} WHERE round = ? ORDER BY rowid"
            yield from map(self._row, self._query(query, round_num))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return [self[i] for i in range(start, stop, step)]
            return self._part(max(0, stop - start), start)
        i = index + len(self) if index < 0 else index
        rows = self._part(1, i) if i >= 0 else []
        if not rows:
            raise IndexError(f"row {index} of {len(self)} {self._table}")
        return rows[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, collections.abc.Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"<{len(self)} rows of {self.file}>"

    def _row(self, values: tuple) -> dict[str, Any]:
        return dict(zip(TABLES[self._table], values))

    def _part(self, limit: int, offset: int) -> list[dict[str, Any]]:
        query = "SELECT * FROM {} ORDER BY rowid LIMIT ? OFFSET ?"
        return [*map(self._row, self._query(query, limit, offset))]

    def _query(self, query: str, *values: int) -> list[tuple]:
        uri = f"{self.file.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(query.format(self._table), values).fetchall()


class ClientRows(_Rows):
    """The table `clients`."""

    _table = "clients"

    def _row(self, values: tuple) -> dict[str, Any]:
        row = super()._row(values)
        dropped = None if row["dropped"] is None else bool(row["dropped"])
        return {**row, "dropped": dropped, "metrics": _json.loads(row["metrics"])}


class EvaluationRows(_Rows):
    """The table `evaluations`."""

    _table = "evaluations"
