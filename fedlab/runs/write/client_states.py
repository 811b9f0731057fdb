"""Stores the states of clients on disk, so memory does not grow with the number of clients."""

import contextlib
import pathlib
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator

from fedlab.runs.format import MAKE_ROOM, RESTORE

_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (
    client_id TEXT NOT NULL, round INTEGER NOT NULL, crc32 INTEGER NOT NULL, data BLOB NOT NULL,
    UNIQUE (client_id, round)
)
"""


class ClientStates:
    """The states of clients in one SQLite file, every version under its round.

    A round reads the versions of earlier rounds, so it can run again: after a kill at any
    moment, a run that resumes from the checkpoint of round r reads what it would have read
    without the kill. `commit` is called before the checkpoint of its round is written.
    Versions are kept as long as a checkpoint needs them.

    Args:
      path: the file, created by the first write. None for a temporary file, which SQLite
        keeps in memory while it is small.

    Attributes:
      oldest_checkpoint: the round of the oldest checkpoint, or None. Earlier versions are
        removed, except the last one of each client.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self.path = path
        self.oldest_checkpoint: int | None = None
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._written: list[tuple[str, int]] = []  # since the last commit: client, oldest round

    def read(self, client_id: str, round_num: int) -> bytes | None:
        """Returns the state that a client had before a round, or None.

        Raises:
          ValueError: the file is damaged.
          OSError: the disk is full or fails (the first read creates the file).
        """
        query = (
            "SELECT data, crc32, round FROM states WHERE client_id = ? AND round < ? "
            "ORDER BY round DESC LIMIT 1"
        )
        with self._lock, _failures_named(self.path):
            row = self._connection().execute(query, (client_id, round_num)).fetchone()
        if row is None:
            return None
        if self._crc32(row[0]) != row[1]:
            raise ValueError(
                f"{self.path} is damaged (the state of client {client_id!r} of round {row[2]}): "
                "start a new run folder"
            )
        return row[0]

    def write(self, round_num: int, states: Iterable[tuple[str, bytes]]) -> None:
        """Writes the states that clients have after a round.

        Args:
          round_num: the round.
          states: pairs of a client id and the client's state, read one by one.

        Raises:
          OSError: the disk is full. SQLite may write to it before `commit`.
        """
        oldest = round_num - 1 if self.oldest_checkpoint is None else self.oldest_checkpoint

        def row(client_id: str, data: bytes) -> tuple[str, int, int, bytes]:
            self._written.append((client_id, oldest))
            return client_id, round_num, self._crc32(data), data

        with self._lock, _failures_named(self.path):
            rows = (row(*state) for state in states)
            self._connection().executemany(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", rows
            )

    def commit(self) -> int:
        """Commits what was written and removes versions that no checkpoint needs.

        The states are on disk when this returns.

        Returns:
          The number of clients that have a state.
        """
        with self._lock:
            if self._opened is None:
                return 0
            # Not in `write`: SQLite would log every page that is freed and reused.
            self._opened.executemany(
                "DELETE FROM states WHERE client_id = ?1 AND round < "
                "(SELECT MAX(round) FROM states WHERE client_id = ?1 AND round <= ?2)",
                self._written,
            )
            self._opened.commit()
            self._written = []
            return _num_clients(self._opened)

    def rewind(self, round_num: int, num_clients: int) -> None:
        """Removes what rounds after this one wrote.

        Raises:
          ValueError: the number of clients that have a state is not `num_clients`, so the
            file does not belong to the checkpoint.
        """
        if self._opened is None and not num_clients and not (self.path and self.path.exists()):
            return
        with self._lock:
            connection, self._written = self._connection(), []
            connection.execute("DELETE FROM states WHERE round > ?", (round_num,))
            connection.commit()
            found = _num_clients(connection)
        if found != num_clients:
            raise ValueError(
                f"{self.path} holds the states of {found} clients: expected {num_clients}, as in "
                f"the checkpoint of round {round_num}; restore the file that belongs to the run "
                "or start a new run folder"
            )

    def close(self) -> None:
        """Closes the file. What was not committed is lost."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _crc32(self, data: bytes) -> int:
        # A temporary file is as safe as the memory of this process and needs no checksum.
        return zlib.crc32(data) if self.path else 0

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(
                    contextlib.closing(sqlite3.connect(self.path or "", check_same_thread=False))
                )
                connection.execute("PRAGMA page_size = 16384")
                connection.execute("PRAGMA synchronous = FULL")
                # Some systems' SQLite overwrites deleted data with zeros, which is slow.
                connection.execute("PRAGMA secure_delete = OFF")
                if not self.path:  # nobody rolls back a temporary file
                    connection.execute("PRAGMA journal_mode = OFF")
                connection.execute(_SCHEMA)
                stack.pop_all()  # it stays open
            self._opened = connection
        return self._opened


def _num_clients(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT COUNT(DISTINCT client_id) FROM states").fetchone()[0]


@contextlib.contextmanager
def _failures_named(path: pathlib.Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        where = path or "the temporary file of client states"
        raise OSError(f"{where} cannot be written ({error}): {MAKE_ROOM}") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path} is damaged ({error}): {RESTORE}") from error
