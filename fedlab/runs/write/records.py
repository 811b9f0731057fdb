"""What a run writes down of its rounds, in one SQLite file: a row a round, a row a client and round, a row a client's metric.

    rounds(round, time, row, checksum)    row: JSON, the columns of metrics.csv; time: when the round ended, in seconds since 1970
    clients(round, client_id, num_examples, num_tokens, num_steps, weight, loss, dropped, reason, metrics)    metrics: JSON
    evaluations(round, part, client_id, num_examples, metric, value)

A number that is not known, or not a number, is NULL. A round's checksum is the SHA-256 of the checksum before it and of the round's rows in
all tables, so that `verify` notices whatever has changed in the file since it was written.
"""

import collections.abc
import hashlib
import json
import pathlib
import sqlite3

from fedlab import _json

CLIENT_COLUMNS = (
    "round",
    "client_id",
    "num_examples",
    "num_tokens",
    "num_steps",
    "weight",
    "loss",
    "dropped",
    "reason",
    "metrics",
)
EVALUATION_COLUMNS = ("round", "part", "client_id", "num_examples", "metric", "value")

_SCHEMA = {
    "rounds": "CREATE TABLE rounds (round INTEGER PRIMARY KEY, time REAL, row TEXT, checksum TEXT)",
    "clients": "CREATE TABLE clients (round INTEGER, client_id TEXT, num_examples INTEGER, num_tokens INTEGER, num_steps INTEGER, "
    "weight REAL, loss REAL NULL, dropped INTEGER, reason TEXT, metrics TEXT, PRIMARY KEY (round, client_id))",
    "evaluations": "CREATE TABLE evaluations (round INTEGER, part TEXT, client_id TEXT, num_examples REAL, metric TEXT, value REAL, "
    "PRIMARY KEY (round, part, client_id, metric))",
}
_TABLES = tuple(_SCHEMA)
_OF_THE_DISK = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
}
_TEXTS = ("client_id", "part", "metric", "reason", "metrics")


def checksum(connection, round_num, before):
    """The checksum of a round whose rows are in the tables; `before` is that of the round before it, or "" for the first."""
    (row,) = connection.execute(
        "SELECT round, time, row FROM rounds WHERE round = ?", (round_num,)
    ).fetchall()
    found = hashlib.sha256(f"{before} {row!r}".encode())
    for table in _TABLES[1:]:
        found.update(
            repr(
                connection.execute(
                    f"SELECT * FROM {table} WHERE round = ? ORDER BY rowid", (round_num,)
                ).fetchall()
            ).encode()
        )
    return found.hexdigest()


def verify(connection):
    """Checks that a file holds what was written. Returns the last checksum.

    Args:
      connection: an open connection to it.

    Raises:
      ValueError: the first damage found.
      sqlite3.DatabaseError: SQLite cannot read it.
    """
    if (damage := connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise ValueError(damage.replace("\n", " "))
    for kind, name, sql in connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ):
        if kind != "table" or _SCHEMA.get(name) != sql:
            raise ValueError(f"it holds another {kind} {name!r:.60}")
    for table in _TABLES[1:]:
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        wrong = " OR ".join(
            f"typeof({name}) " + ("!= 'text'" if name in _TEXTS else "IN ('text', 'blob')")
            for name in columns
        )
        if (
            row := connection.execute(f"SELECT * FROM {table} WHERE {wrong} LIMIT 1").fetchone()
        ) is not None:
            raise ValueError(f"the table {table} holds {row!r:.100}, of other types")
        strays = f"SELECT round FROM {table} WHERE round IS NULL OR round NOT IN (SELECT round FROM rounds) LIMIT 1"
        if (stray := connection.execute(strays).fetchone()) is not None:
            raise ValueError(
                f"the table {table} holds round {stray[0]}, which the table rounds lacks"
            )
    last = ""
    for round_num, written in connection.execute(
        "SELECT round, checksum FROM rounds ORDER BY round"
    ).fetchall():
        last = checksum(connection, round_num, last)
        if last != written:
            raise ValueError(f"the checksum of round {round_num} does not match")
    return last


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
        self._connection = sqlite3.connect(
            path, timeout=60
        )  # who reads the file meanwhile is soon done
        try:
            self._connection.execute("PRAGMA synchronous = FULL")
            for statement in _SCHEMA.values():
                self._connection.execute(
                    statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
                )
            self._connection.commit()
            try:
                self._checksum = verify(self._connection)
            except ValueError as error:
                raise _damaged(path, error) from None
            self.counts = self._count()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            self._connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_DISK:
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
            self._connection.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, NULL)", (round_num, time, json.dumps(row))
            )
            packed = ({**client, "metrics": json.dumps(client["metrics"])} for client in clients)
            self._insert("clients", CLIENT_COLUMNS, round_num, packed)
            self._insert("evaluations", EVALUATION_COLUMNS, round_num, evaluations)
            found = checksum(self._connection, round_num, self._checksum)
            self._connection.execute(
                "UPDATE rounds SET checksum = ? WHERE round = ?", (found, round_num)
            )
            self._connection.commit()
            self._checksum = found
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
        last = self._connection.execute(
            "SELECT checksum FROM rounds ORDER BY round DESC LIMIT 1"
        ).fetchone()
        self._checksum = last[0] if last else ""

    def rounds(self):
        """(time, row) of each round, in order.

        Raises:
          ValueError: the file is damaged.
        """
        try:
            return [
                (time, _json.loads(row))
                for time, row in self._connection.execute(
                    "SELECT time, row FROM rounds ORDER BY round"
                )
            ]
        except (ValueError, TypeError) as error:
            raise _damaged(self.path, error) from error

    def close(self):
        self._connection.close()

    def _count(self):
        return {
            table: self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table in _TABLES
        }

    def _insert(self, table, columns, round_num, rows):
        values = ([round_num, *(row[name] for name in columns[1:])] for row in rows)
        self._connection.executemany(
            f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", values
        )


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


def _damaged(path, reason):
    return ValueError(
        f"{path} is damaged ({reason}): put a good copy back, or start a new run folder."
    )
