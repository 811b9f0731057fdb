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

from fedlab import __version__, _json

FORMAT_VERSION = 2
"""Version of the layout of a run folder and of its files."""

LAYERS = ("layers", "input_layers", "output_layers", "inputs", "weights")
"""Settings that say more of the layers than "model" does."""

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

SCHEMA = {
    "rounds": "CREATE TABLE rounds (round INTEGER PRIMARY KEY, time REAL, row TEXT, checksum TEXT)",
    "clients": "CREATE TABLE clients (round INTEGER, client_id TEXT, num_examples INTEGER, num_tokens INTEGER, num_steps INTEGER, "
    "weight REAL, loss REAL NULL, dropped INTEGER, reason TEXT, metrics TEXT, PRIMARY KEY (round, client_id))",
    "evaluations": "CREATE TABLE evaluations (round INTEGER, part TEXT, client_id TEXT, num_examples REAL, metric TEXT, value REAL, "
    "PRIMARY KEY (round, part, client_id, metric))",
}
TABLES = tuple(SCHEMA)
_TEXTS = ("client_id", "part", "metric", "reason", "metrics")


def read_config(path):
    """Returns the contents of the config.json of a run folder.

    Raises:
      ValueError: the folder is of another format version, or its config.json is damaged.
    """
    try:
        config = dict(_json.read(path / "config.json", _json.MOST_LEVELS))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path / 'config.json'} is damaged ({error}): put a good copy back, or start a new run folder."
        ) from error
    if config.get("format_version") != FORMAT_VERSION:
        versions = config.get("versions")
        wrote = versions.get("fedlab") if isinstance(versions, dict) else None
        raise ValueError(
            f"{path} is a run folder of format version {config.get('format_version')!r:.40}, written by fedlab {wrote!s:.40}; this fedlab, "
            f"{__version__}, reads version {FORMAT_VERSION}: go on with that one, or start a new run folder."
        )
    return config


def checksum(connection, round_num, before):
    """The checksum of a round whose rows are in the tables; `before` is that of the round before it, or "" for the first."""
    (row,) = connection.execute(
        "SELECT round, time, row FROM rounds WHERE round = ?", (round_num,)
    ).fetchall()
    found = hashlib.sha256(f"{before} {row!r}".encode())
    for table in TABLES[1:]:
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
        if kind != "table" or SCHEMA.get(name) != sql:
            raise ValueError(f"it holds another {kind} {name!r:.60}")
    for table in TABLES[1:]:
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
