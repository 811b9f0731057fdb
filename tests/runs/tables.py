"""Changes the tables of a run together with their checksums."""

import contextlib
import sqlite3

from fedlab.runs.format import checksum


def change(file, *statements):
    """Executes statements, each with its values, and rewrites the checksums of all rounds."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for statement, *values in statements:
            connection.execute(statement, values)
        sign(connection)


def sign(connection):
    last = ""
    for (round_num,) in connection.execute("SELECT round FROM rounds ORDER BY round").fetchall():
        last = checksum(connection, round_num, last)
        connection.execute("UPDATE rounds SET checksum = ? WHERE round = ?", (last, round_num))
    connection.commit()
