"""A SQLite file of model states and their answers to the draws of `efficacy`.

Four tables, joined by foreign keys:

```
model_states    state_id, weights_sha256, name, path, recorded_at           weights, under a name
question_sets   set_id, questions_sha256, source, version, split, num_questions
runs            run_id, state_id, set_id, replay_of, seed, num_correct, max_draws, drawn,
                correct, distinct_questions, recorded_at
draws           run_id, draw (0, 1, ...), question_index, question_id, answer,
                exact_match, f1
```

`num_correct` and `max_draws` are settings, `drawn` and `correct` results. A run with
`replay_of` repeats the draws of another run, so both have the same question in the same
draw. This query compares two states of training by run and replay:

```sql
SELECT old.name AS old, new.name AS new, COUNT(*) AS draws,
       SUM(a.exact_match) AS old_correct, SUM(b.exact_match) AS new_correct,
       SUM(b.exact_match > a.exact_match) AS gained, SUM(b.exact_match < a.exact_match) AS lost
FROM runs AS replay
JOIN runs AS original ON original.run_id = replay.replay_of
JOIN draws AS a ON a.run_id = original.run_id
JOIN draws AS b ON b.run_id = replay.run_id AND b.draw = a.draw
JOIN model_states AS old ON old.state_id = original.state_id
JOIN model_states AS new ON new.state_id = replay.state_id
GROUP BY replay.run_id;
```
"""

import contextlib
import datetime
import os
import pathlib
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fedlab.tasks.question_answering.efficacy import Draw

APPLICATION_ID = 0x66656465  # identifies the file type in SQLite's header
VERSION = 1
_TIMEOUT_S = 30.0
_PAGE_BYTES = 512  # minimum size of a SQLite file

_SCHEMA = (
    """CREATE TABLE model_states (
        state_id INTEGER PRIMARY KEY, weights_sha256 TEXT NOT NULL, name TEXT NOT NULL,
        path TEXT NOT NULL, recorded_at TEXT NOT NULL,
        UNIQUE (weights_sha256, name)
    )""",
    """CREATE TABLE question_sets (
        set_id INTEGER PRIMARY KEY, questions_sha256 TEXT NOT NULL UNIQUE, source TEXT NOT NULL,
        version TEXT NOT NULL, split TEXT NOT NULL, num_questions INTEGER NOT NULL
    )""",
    """CREATE TABLE runs (
        run_id INTEGER PRIMARY KEY, state_id INTEGER NOT NULL REFERENCES model_states,
        set_id INTEGER NOT NULL REFERENCES question_sets, replay_of INTEGER REFERENCES runs,
        seed INTEGER NOT NULL, num_correct INTEGER NOT NULL, max_draws INTEGER NOT NULL,
        drawn INTEGER NOT NULL, correct INTEGER NOT NULL, distinct_questions INTEGER NOT NULL,
        recorded_at TEXT NOT NULL
    )""",
    """CREATE TABLE draws (
        run_id INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, draw INTEGER NOT NULL,
        question_index INTEGER NOT NULL, question_id TEXT NOT NULL, answer TEXT NOT NULL,
        exact_match INTEGER NOT NULL CHECK (exact_match IN (0, 1)), f1 REAL NOT NULL,
        PRIMARY KEY (run_id, draw)
    ) WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


class ModelState(NamedTuple):
    """A model's weights: their hash (`efficacy.weights_sha256`), a name and their path."""

    weights_sha256: str
    name: str
    path: str


class QuestionSet(NamedTuple):
    """Questions: their hash (`efficacy.questions_sha256`) and their source."""

    questions_sha256: str
    source: str
    version: str
    split: str
    num_questions: int


class Settings(NamedTuple):
    """Settings of a run: seed, target number of correct answers, maximum number of draws."""

    seed: int
    num_correct: int
    max_draws: int


class Recorded(NamedTuple):
    """A recorded run: `Settings`, hash of the questions, (question_index, exact_match) per draw."""

    settings: Settings
    questions_sha256: str
    draws: list


def check(path: str | os.PathLike) -> None:
    """Checks that runs can be recorded in a file: it is a database of this module, or missing.

    Raises:
      ValueError: it is another file, or of another version.
      FileNotFoundError: its folder does not exist.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{str(path.parent)!r}: expected an existing folder for the database; create it"
        )
    if path.is_dir():
        raise ValueError(
            f"{str(path)!r}: expected a SQLite file, or a path without a file, got a folder"
        )
    if path.exists():
        with _opened(path):
            pass


def read(path: str | os.PathLike, run_id: int) -> Recorded:
    """Reads a run from a database, to replay it.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: there is no such run, or the file is not a database of this module.
    """
    if not 1 <= run_id < 2**63:
        raise ValueError(f"run {run_id}: expected 1 to {2**63 - 1}, which SQLite can hold")
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(
            f"{str(path)!r}: expected a database with a run to replay; check the path"
        )
    with _opened(path) as connection:
        query = (
            "SELECT seed, num_correct, max_draws, questions_sha256"
            " FROM runs JOIN question_sets USING (set_id) WHERE run_id = ?"
        )
        row = connection.execute(query, (run_id,)).fetchone() if _is_made(connection) else None
        if row is None:
            known = (
                [number for (number,) in connection.execute("SELECT run_id FROM runs ORDER BY 1")]
                if _is_made(connection)
                else []
            )
            allowed = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
            raise ValueError(f"run {run_id} of {path}: expected one of {allowed or 'none'}")
        draws = connection.execute(
            "SELECT question_index, exact_match FROM draws WHERE run_id = ? ORDER BY draw",
            (run_id,),
        ).fetchall()
    return Recorded(Settings(*row[:3]), row[3], draws)


def record(
    path: str | os.PathLike,
    state: ModelState,
    question_set: QuestionSet,
    settings: Settings,
    draws: Sequence["Draw"],
    replay_of: int | None = None,
) -> int:
    """Writes a run with all its draws in one transaction, and creates the file if needed.

    A model state with the same weights and the same name is written only once.

    Args:
      path: the file.
      state: the model that answered.
      question_set: the questions that were drawn from.
      settings: the settings of the draws.
      draws: the results.
      replay_of: run id of the run whose draws were repeated.

    Returns:
      The run id.

    Raises:
      ValueError: the file is not a database of this module, or cannot be written.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with _opened(path, create=True) as connection:
        # SQLite rolls back what is not committed, even after SIGKILL.
        connection.execute("BEGIN IMMEDIATE")
        if not _is_made(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute(
            "INSERT INTO model_states (weights_sha256, name, path, recorded_at)"
            " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*state, now),
        )
        query = "SELECT state_id FROM model_states WHERE weights_sha256 = ? AND name = ?"
        (state_id,) = connection.execute(query, state[:2]).fetchone()
        connection.execute(
            "INSERT INTO question_sets (questions_sha256, source, version, split, num_questions)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            question_set,
        )
        query = "SELECT set_id FROM question_sets WHERE questions_sha256 = ?"
        (set_id,) = connection.execute(query, question_set[:1]).fetchone()
        correct, distinct = (
            sum(draw.exact_match for draw in draws),
            len({draw.question for draw in draws}),
        )
        run_id = connection.execute(
            "INSERT INTO runs (state_id, set_id, replay_of, seed, num_correct, max_draws, drawn,"
            " correct, distinct_questions, recorded_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (state_id, set_id, replay_of, *settings, len(draws), correct, distinct, now),
        ).lastrowid
        rows = (
            (run_id, i, d.question, d.question_id, d.answer, int(d.exact_match), d.f1)
            for i, d in enumerate(draws)
        )
        connection.executemany("INSERT INTO draws VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    return run_id


@contextlib.contextmanager
def _opened(path, create=False):
    """Opens a file of this module, or an empty one; SQLite's errors become ValueErrors."""
    if 0 < _size(path) < _PAGE_BYTES:  # SQLite would read it as an empty file
        raise ValueError(
            f"{path}: expected a SQLite file, got one that is cut off; pass a path without a file"
        )
    uri = f"{pathlib.Path(path).absolute().as_uri()}?mode={'rwc' if create else 'ro'}"
    try:
        # Transactions are begun explicitly.
        with contextlib.closing(
            sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if owner != APPLICATION_ID and (
                owner
                or version
                or connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            ):
                raise ValueError(
                    f"{path}: expected a database of this module; pass a path without a file"
                )
            if owner == APPLICATION_ID and version != VERSION:
                raise ValueError(
                    f"{path} has version {version}: expected {VERSION}; pass another path"
                )
            yield connection
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{path} cannot be used as the database ({error}): check the file, or pass another path"
        ) from None


def _size(path):
    try:
        return pathlib.Path(path).stat().st_size
    except OSError:
        return 0


def _is_made(connection):
    return connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
