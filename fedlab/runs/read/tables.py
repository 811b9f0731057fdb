"""Reads clients.sqlite, the tables of a run; no other module reads them."""

import collections.abc
import contextlib
import pathlib
import sqlite3

from fedlab import _json
from fedlab.runs import format as run_format
from fedlab.runs.format import CLIENT_COLUMNS, EVALUATION_COLUMNS

FILE = "clients.sqlite"
TABLES = {"clients": CLIENT_COLUMNS, "evaluations": EVALUATION_COLUMNS}
"""The tables of clients.sqlite that hold clients, with their columns."""


def read_tables(path):
    """Returns the rows of the tables `clients` and `evaluations` of a run folder.

    Both are sequences that read from the file when they are used, so that memory does
    not grow with the number of rounds.
    """
    return ClientRows(path / FILE), EvaluationRows(path / FILE)


def read_rounds(path):
    """Verifies the tables of a run folder and returns its rounds: (round, time, row).

    Raises:
      ValueError: the file is damaged.
    """
    with database(path) as connection:
        connection.execute("BEGIN")  # a simulation may be writing at the same time
        try:
            run_format.verify(connection)
        except ValueError as error:
            raise ValueError(
                f"{path / FILE} is damaged ({error}): put a good copy back, or run the simulation again."
            ) from None
        return connection.execute("SELECT round, time, row FROM rounds ORDER BY round").fetchall()


class _Rows(collections.abc.Sequence):
    """The rows of a table as dicts, in the order they were written, read from the file when asked for.

    Args:
      path: of the file.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __len__(self):
        return self._query(f"SELECT COUNT(*) FROM {self._table}")[0][0]

    def __iter__(self):
        # By round: the file may be large, and nobody else waits while it is read.
        for (round_num,) in self._query(f"SELECT DISTINCT round FROM {self._table} ORDER BY round"):
            yield from map(
                self._row,
                self._query(
                    f"SELECT * FROM {self._table} WHERE round = ? ORDER BY rowid", round_num
                ),
            )

    def __getitem__(self, index):
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

    def __eq__(self, other):
        return isinstance(other, collections.abc.Sequence) and list(self) == list(other)

    def __repr__(self):
        return f"<{len(self)} rows of {self.path}>"

    def _part(self, limit, offset):
        return [
            *map(
                self._row,
                self._query(
                    f"SELECT * FROM {self._table} ORDER BY rowid LIMIT ? OFFSET ?", limit, offset
                ),
            )
        ]

    def _query(self, query, *values):
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()


class ClientRows(_Rows):
    """The table `clients`."""

    _table = "clients"

    def _row(self, values):
        row = dict(zip(CLIENT_COLUMNS, values))
        dropped = None if row["dropped"] is None else bool(row["dropped"])
        return {**row, "dropped": dropped, "metrics": _json.loads(row["metrics"])}


class EvaluationRows(_Rows):
    """The table `evaluations`."""

    _table = "evaluations"

    def _row(self, values):
        return dict(zip(EVALUATION_COLUMNS, values))


@contextlib.contextmanager
def database(path):
    """Opens the tables of a run folder.

    Nothing is written, except that SQLite rolls back a transaction that a killed process
    left unfinished.
    """
    file = path / FILE
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
        ) as connection:
            yield connection
    except (
        sqlite3.DatabaseError,
        UnicodeDecodeError,
    ) as error:  # the latter of a text in SQLite's own message
        raise ValueError(
            f"{file} is damaged ({error}): put a good copy back, or run the simulation again."
        ) from None
