"""Writes the rounds of a run to clients.sqlite; `fedlab.runs.format` describes the tables."""

import json
import pathlib
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fedlab import _json
from fedlab.runs.format import (
    CLIENT_COLUMNS,
    EVALUATION_COLUMNS,
    RESTORE,
    SCHEMA,
    TABLES,
    checksum,
    verify,
)

# Errors of the disk, not of the file's content.
_DISK_ERRORS = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
}
_READER_TIMEOUT_S = 60


class Records:
    """The tables of a run. Only the run itself writes them.

    Args:
      path: the file. It is created if missing.

    Attributes:
      counts: table -> number of rows.

    Raises:
      ValueError: the file is damaged.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._connection = sqlite3.connect(path, timeout=_READER_TIMEOUT_S)
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
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_ERRORS:
                raise
            raise _damaged(path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def add(
        self,
        time: float,
        row: Mapping[str, Any],
        clients: Collection[Mapping[str, Any]],
        evaluations: Collection[Mapping[str, Any]],
    ) -> None:
        """Writes a round in one transaction. It is on disk when this returns.

        Args:
          time: when the round ended, in seconds since 1970.
          row: name -> number, with "round".
          clients, evaluations: rows of the tables as dicts, without "round".
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

    def last_round(self) -> int | None:
        """Returns the last round in the tables, or None."""
        return self._connection.execute("SELECT MAX(round) FROM rounds").fetchone()[0]

    def rewind(self, round_num: int) -> None:
        """Removes the rows of later rounds in one transaction."""
        for table in TABLES:
            self._connection.execute(f"DELETE FROM {table} WHERE round > ?", (round_num,))
        self._connection.commit()
        self.counts = self._count()
        last = self._connection.execute(
            "SELECT checksum FROM rounds ORDER BY round DESC LIMIT 1"
        ).fetchone()
        self._checksum = last[0] if last else ""

    def rounds(self) -> list[tuple[float, dict[str, Any]]]:
        """Returns (time, row) of each round, in order.

        Raises:
          ValueError: the file is damaged.
        """
        query = "SELECT time, row FROM rounds ORDER BY round"
        try:
            return [(time, _json.loads(row)) for time, row in self._connection.execute(query)]
        except (ValueError, TypeError) as error:
            raise _damaged(self.path, error) from error

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _count(self) -> dict[str, int]:
        return {
            table: self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table in TABLES
        }

    def _insert(
        self,
        table: str,
        columns: tuple[str, ...],
        round_num: int,
        rows: Iterable[Mapping[str, Any]],
    ) -> None:
        values = ([round_num, *(row[name] for name in columns[1:])] for row in rows)
        self._connection.executemany(
            f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", values
        )


def _damaged(path: pathlib.Path, reason: Exception) -> ValueError:
    return ValueError(f"{path} is damaged ({reason}): {RESTORE}")
