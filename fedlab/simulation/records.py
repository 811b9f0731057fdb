"""What a run writes down of its rounds, in one SQLite file: a row a round, a row a client and round, a row a client's metric.

    rounds(round, time, row)         row: JSON, the columns of metrics.csv; time: when the round ended, in seconds since 1970
    clients(round, client_id, num_examples, num_tokens, num_steps, weight, loss, dropped, reason)
    evaluations(round, part, client_id, num_examples, metric, value)

A number that is not known, or not a number, is NULL.
"""

import collections.abc
import json
import pathlib
import sqlite3

from fedlab import _json

CLIENT_COLUMNS = ("round", "client_id", "num_examples", "num_tokens", "num_steps", "weight", "loss", "dropped", "reason")
EVALUATION_COLUMNS = ("round", "part", "client_id", "num_examples", "metric", "value")

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS rounds (round INTEGER PRIMARY KEY, time REAL, row TEXT)",
    "CREATE TABLE IF NOT EXISTS clients (round INTEGER, client_id TEXT, num_examples INTEGER, num_tokens INTEGER, num_steps INTEGER, "
    "weight REAL, loss REAL NULL, dropped INTEGER, reason TEXT, PRIMARY KEY (round, client_id))",
    "CREATE TABLE IF NOT EXISTS evaluations (round INTEGER, part TEXT, client_id TEXT, num_examples REAL, metric TEXT, value REAL, "
    "PRIMARY KEY (round, part, client_id, metric))",
)
_TABLES = ("rounds", "clients", "evaluations")


class Records:
    """The file, of which the run is the only writer.

    Args:
      path: the file; it is made where there is none.

    Attributes:
      counts: table -> how many rows it has.

    Raises:
      ValueError: the file is damaged.
    """

    def __init__(self, path):
        self.path = path
        self._connection = sqlite3.connect(path, timeout=60)  # who reads the file meanwhile is soon done
        try:
            self._connection.execute("PRAGMA synchronous = FULL")
            if (damage := self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise _damaged(path, damage)
            for statement in _SCHEMA:
                self._connection.execute(statement)
            self._connection.commit()
            self.counts = self._count()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):  # a full disk, say
                raise
            raise _damaged(path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def add(self, time, row, clients, evaluations):
        """Writes a round down, all of it or nothing. On disk when it returns.

        Args:
          time: when the round ended, in seconds since 1970.
          row: name -> number, with "round".
          clients, evaluations: one dict each, with the columns of the tables but for "round".
        """
        round_num = row["round"]
        try:
            self._connection.execute("INSERT INTO rounds VALUES (?, ?, ?)", (round_num, time, json.dumps(row)))
            self._insert("clients", CLIENT_COLUMNS, round_num, clients)
            self._insert("evaluations", EVALUATION_COLUMNS, round_num, evaluations)
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise
        added = {"rounds": 1, "clients": len(clients), "evaluations": len(evaluations)}
        self.counts = {table: count + added[table] for table, count in self.counts.items()}

    def last_round(self):
        """The last round written down, or None."""
        return self._connection.execute("SELECT MAX(round) FROM rounds").fetchone()[0]

    def rewind(self, round_num):
        """Forgets what later rounds wrote, in one transaction."""
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM {table} WHERE round > ?", (round_num,))
        self._connection.commit()
        self.counts = self._count()

    def rounds(self):
        """(time, row) of each round, in order.

        Raises:
          ValueError: the file is damaged.
        """
        try:
            return [(time, _json.loads(row)) for time, row in self._connection.execute("SELECT time, row FROM rounds ORDER BY round")]
        except (ValueError, TypeError) as error:
            raise _damaged(self.path, error) from error

    def close(self):
        self._connection.close()

    def _count(self):
        return {table: self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in _TABLES}

    def _insert(self, table, columns, round_num, rows):
        values = ([round_num, *(row[name] for name in columns[1:])] for row in rows)
        self._connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", values)


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
            yield from map(self._row, self._query(f"SELECT * FROM {self._table} WHERE round = ? ORDER BY rowid", round_num))

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
        return [*map(self._row, self._query(f"SELECT * FROM {self._table} ORDER BY rowid LIMIT ? OFFSET ?", limit, offset))]

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
        return {**row, "dropped": None if row["dropped"] is None else bool(row["dropped"])}


class EvaluationRows(_Rows):
    """The table `evaluations`."""

    _table = "evaluations"

    def _row(self, values):
        return dict(zip(EVALUATION_COLUMNS, values))


def _damaged(path, reason):
    return ValueError(f"{path} is damaged ({reason}): put a good copy back, or start a new run folder.")
