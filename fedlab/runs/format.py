"""The format of a run folder, shared by the code that writes one and the code that reads one.

`clients.sqlite` holds three tables:

    rounds(round, time, row, checksum)
      row: JSON, the columns of metrics.csv.
      time: when the round ended, in seconds since 1970.
    clients(round, client_id, num_examples, num_tokens, num_steps, weight, loss, dropped,
            reason, metrics)
      metrics: JSON.
    evaluations(round, part, client_id, num_examples, metric, value)

An unknown number and NaN are NULL. The checksum of a round is the SHA-256 of the
previous round's checksum and of the round's rows in all tables, so `verify` detects any
change to the file.
"""

import hashlib
import pathlib
import sqlite3
from typing import Any

from fedlab import __version__, _json

FORMAT_VERSION = 2
"""Version of the layout of a run folder and of its files."""

LAYERS = ("layers", "input_layers", "output_layers", "inputs", "weights")
"""Settings that describe the layers in more detail than "model"."""

FOR_PEOPLE = ("model_name", "layer_table", "evaluation_clients")
"""Entries of config.json that only describe the run in its report."""

RESTORE = "restore an undamaged copy or start a new run folder"
MAKE_ROOM = "make room on the disk and run the same command again; the last checkpoint is intact"
"""What to do about a damaged file and about a disk that cannot be written."""

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

# SQLite stores these texts and `verify` compares them, so they must never change.
SCHEMA = {
    "rounds": "CREATE TABLE rounds (round INTEGER PRIMARY KEY, time REAL, row TEXT, checksum TEXT)",
    "clients": (
        "CREATE TABLE clients (round INTEGER, client_id TEXT, num_examples INTEGER, "
        "num_tokens INTEGER, num_steps INTEGER, weight REAL, loss REAL NULL, dropped INTEGER, "
        "reason TEXT, metrics TEXT, PRIMARY KEY (round, client_id))"
    ),
    "evaluations": (
        "CREATE TABLE evaluations (round INTEGER, part TEXT, client_id TEXT, num_examples REAL, "
        "metric TEXT, value REAL, PRIMARY KEY (round, part, client_id, metric))"
    ),
}
TABLES = tuple(SCHEMA)
_TEXTS = ("client_id", "part", "metric", "reason", "metrics")


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Returns the contents of the config.json of a run folder.

    Raises:
      ValueError: the folder has another format version, or its config.json is damaged.
    """
    file = path / "config.json"
    try:
        config = dict(_json.read(file, _json.MOST_LEVELS))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): {RESTORE}") from error
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        versions = config.get("versions")
        wrote = versions.get("fedlab") if isinstance(versions, dict) else None
        raise ValueError(
            f"{path} is a run folder of format version {version!r:.40}, written by fedlab "
            f"{wrote!s:.40}: expected version {FORMAT_VERSION}, which fedlab {__version__} uses; "
            "continue with the fedlab that wrote it or start a new run folder"
        )
    # Runs without this entry are older than the modern stack.
    config.setdefault("stack", "tff")
    for name in ("evaluation_examples", "evaluation_data"):
        if isinstance(sets := config.get(name), dict):
            config[name] = {part: _renamed(about) for part, about in sets.items()}
    return config


def _renamed(about: Any) -> Any:
    """Renames local examples, which config.json called "own" before the restructuring."""
    if not isinstance(about, dict) or not about.keys() <= {"clients", "own", "test"}:
        return about
    return {"local" if name == "own" else name: value for name, value in about.items()}


def checksum(connection: sqlite3.Connection, round_num: int, before: str) -> str:
    """Returns the checksum of a round whose rows are in the tables.

    Args:
      connection: an open connection to clients.sqlite.
      round_num: the round.
      before: the checksum of the previous round, or "" for the first.
    """

    def rows(columns: str, table: str) -> list[tuple]:
        query = f"SELECT {columns} FROM {table} WHERE round = ? ORDER BY rowid"
        return connection.execute(query, (round_num,)).fetchall()

    (row,) = rows("round, time, row", "rounds")
    found = hashlib.sha256(f"{before} {row!r}".encode())
    for table in TABLES[1:]:
        found.update(repr(rows("*", table)).encode())
    return found.hexdigest()


def verify(connection: sqlite3.Connection) -> str:
    """Checks that clients.sqlite holds what was written. Returns the last checksum.

    Raises:
      ValueError: the first damage found.
      sqlite3.DatabaseError: SQLite cannot read the file.
    """
    if (damage := connection.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise ValueError(damage.replace("\n", " "))
    for kind, name, sql in connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ):
        if kind != "table" or SCHEMA.get(name) != sql:
            raise ValueError(f"unexpected {kind} {name!r:.60}")
    for table in TABLES[1:]:
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        wrong = " OR ".join(
            f"typeof({name}) " + ("!= 'text'" if name in _TEXTS else "IN ('text', 'blob')")
            for name in columns
        )
        row = connection.execute(f"SELECT * FROM {table} WHERE {wrong} LIMIT 1").fetchone()
        if row is not None:
            raise ValueError(f"wrong types in the table {table}: {row!r:.100}")
        stray = connection.execute(
            f"SELECT round FROM {table} "
            "WHERE round IS NULL OR round NOT IN (SELECT round FROM rounds) LIMIT 1"
        ).fetchone()
        if stray is not None:
            raise ValueError(f"round {stray[0]} is in the table {table} but not in rounds")
    last = ""
    for round_num, written in connection.execute(
        "SELECT round, checksum FROM rounds ORDER BY round"
    ).fetchall():
        last = checksum(connection, round_num, last)
        if last != written:
            raise ValueError(f"the checksum of round {round_num} does not match")
    return last
