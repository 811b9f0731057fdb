"""Writes the rounds of a run to clients.sqlite; `fedlab.runs.format` describes the tables."""

import json
import sqlite3

from fedlab import _json
from fedlab.runs.format import (
    CLIENT_COLUMNS,
    EVALUATION_COLUMNS,
    SCHEMA,
    TABLES,
    checksum,
    verify,
)

_OF_THE_DISK = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
}


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
            for statement in SCHEMA.values():
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
        for table in TABLES:
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
            for table in TABLES
        }

    def _insert(self, table, columns, round_num, rows):
        values = ([round_num, *(row[name] for name in columns[1:])] for row in rows)
        self._connection.executemany(
            f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", values
        )


def _damaged(path, reason):
    return ValueError(
        f"{path} is damaged ({reason}): put a good copy back, or start a new run folder."
    )
