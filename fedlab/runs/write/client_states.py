"""What clients keep from round to round, on disk: memory does not grow with the number of clients."""

import contextlib
import sqlite3
import threading
import zlib

_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (
    client_id TEXT NOT NULL, round INTEGER NOT NULL, crc32 INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (client_id, round)
)
"""


class ClientStates:
    """The arrays that clients keep, every version under the round that wrote it, in one SQLite file.

    A round reads what rounds before it wrote. So it can be run again: a run that goes on from the checkpoint of round r, after a kill at
    any moment, reads what it would have read, and writes the same again. `commit` comes before the checkpoint of its round is written;
    versions are kept as long as a checkpoint that needs them.

    Args:
      path: the file, made when first written to; None for a temporary one, which SQLite keeps in memory while it is small.
    """

    def __init__(self, path=None):
        self.path = path
        self.oldest_checkpoint = None
        self._lock = threading.Lock()
        self._opened = None
        self._written = []  # (client id, the oldest checkpoint's round) since the last commit
        # What no other process sees, and what ends with this one, is as safe as this process's memory.
        self._checksum = zlib.crc32 if path else lambda data: 0

    def read(self, client_id, round_num):
        """The bytes that the client kept last before this round, or None.

        Raises:
          ValueError: where the file is damaged.
          OSError: the disk is full, or fails: the first client that reads makes the file.
        """
        query = "SELECT data, crc32, round FROM states WHERE client_id = ? AND round < ? ORDER BY round DESC LIMIT 1"
        with self._lock, _failures_named(self.path):
            row = self._connection().execute(query, (client_id, round_num)).fetchone()
        if row is None:
            return None
        if self._checksum(row[0]) != row[1]:
            raise ValueError(
                f"{self.path} is damaged: the state of client {client_id!r} of round {row[2]}. Start a new run folder."
            )
        return row[0]

    def write(self, round_num, states):
        """Keeps clients' states as of this round.

        Args:
          round_num: the round.
          states: (client_id, its bytes) of each client, read one by one.

        Raises:
          OSError: the disk is full: SQLite writes before a commit what it does not hold in memory.
        """
        oldest = round_num - 1 if self.oldest_checkpoint is None else self.oldest_checkpoint

        def row(client_id, data):
            self._written.append((client_id, oldest))
            return client_id, round_num, self._checksum(data), data

        with self._lock, _failures_named(self.path):
            rows = (row(*state) for state in states)
            self._connection().executemany(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", rows
            )

    def commit(self):
        """Makes what was written safe, on disk when it returns, and forgets versions that no checkpoint needs.

        Returns:
          How many clients have a state.
        """
        with self._lock:
            if self._opened is None:
                return 0
            # Not as they are written: SQLite logs what it overwrites of the room that the same transaction has freed.
            self._opened.executemany(
                "DELETE FROM states WHERE client_id = ?1 AND round < (SELECT MAX(round) FROM states WHERE client_id = ?1 AND round <= ?2)",
                self._written,
            )
            self._opened.commit()
            self._written = []
            return self._opened.execute("SELECT COUNT(DISTINCT client_id) FROM states").fetchone()[
                0
            ]

    def rewind(self, round_num, num_clients):
        """Forgets what rounds after this one wrote.

        Raises:
          ValueError: where not so many clients have a state then: the file is not the one that belongs to the checkpoint.
        """
        if self._opened is None and not num_clients and not (self.path and self.path.exists()):
            return
        with self._lock:
            connection, self._written = self._connection(), []
            connection.execute("DELETE FROM states WHERE round > ?", (round_num,))
            connection.commit()
            found = connection.execute("SELECT COUNT(DISTINCT client_id) FROM states").fetchone()[0]
        if found != num_clients:
            raise ValueError(
                f"{self.path} holds the states of {found} clients, the checkpoint of round {round_num} needs {num_clients}: "
                "put the file back that belongs to the run, or start a new run folder."
            )

    def close(self):
        """Closes the file; what was not committed is forgotten."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _connection(self):
        if self._opened is None:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(
                    contextlib.closing(sqlite3.connect(self.path or "", check_same_thread=False))
                )
                connection.execute("PRAGMA page_size = 16384")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(
                    "PRAGMA secure_delete = OFF"
                )  # some systems' SQLite would overwrite with zeros what is deleted
                if not self.path:
                    connection.execute(
                        "PRAGMA journal_mode = OFF"
                    )  # nobody goes back to an earlier state of it
                connection.execute(_SCHEMA)
                stack.pop_all()  # it stays open
            self._opened = connection
        return self._opened


@contextlib.contextmanager
def _failures_named(path):
    try:
        yield
    except sqlite3.OperationalError as error:
        where = path or "the temporary file of what clients keep"
        raise OSError(
            f"{where} cannot be written ({error}); the last checkpoint stays good: make room and run the same again."
        ) from error
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{path} is damaged ({error}): put a good copy back, or start a new run folder."
        ) from error
