"""Efficacy: the draws, when they stop, what is estimated, and the file that keeps them."""

import pathlib
import re
import sqlite3

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.datasets import squad
from fedlab.tasks.question_answering import efficacy, efficacy_database, spans
from fedlab.tasks.question_answering import scores as squad_scores
from tests.preferring import PLACES, YEARS, preferring

README = pathlib.Path(__file__).resolve().parents[3] / "experiments" / "squad" / "README.md"
SETTINGS = efficacy_database.Settings(seed=3, num_correct=2, max_draws=9)
QUESTIONS = efficacy_database.QuestionSet("ab12", "synthetic", "1.1", "test", 96)


@pytest.fixture(scope="module")
def windows():
    return squad.synthetic_windows(num_clients=4)[1]


@pytest.fixture(scope="module")
def model():
    return preferring(YEARS)


@pytest.fixture(scope="module")
def known(model, windows):
    """The numbers of the questions that the model answers exactly."""
    found = spans.predictions(windows, spans.answers(windows, spans.logits(model, windows)))
    scores = squad_scores.scores(windows.questions, found)
    return {number for number, score in enumerate(scores) if score.exact_match}


# ---- Draws ----


def test_draws_are_a_function_of_the_seed():
    draws = efficacy.draw(50, 400, seed=2)
    np.testing.assert_array_equal(draws[:7], efficacy.draw(50, 7, seed=2))
    assert sorted(set(draws.tolist())) == list(range(50))  # with replacement, of all
    assert not np.array_equal(draws, efficacy.draw(50, 400, seed=3))


def test_stops_at_the_last_correct_answer(model, windows, known):
    assert 0 < len(known) < len(windows.questions)  # else this tests nothing
    numbers = efficacy.draw(len(windows.questions), 2000, seed=5)
    found = efficacy.measure(model, windows, num_correct=6, max_draws=2000, seed=5)
    correct = [number in known for number in numbers.tolist()]
    expected = 1 + np.flatnonzero(np.cumsum(correct) == 6)[0]
    assert [draw.question for draw in found.draws] == numbers[:expected].tolist()
    assert [draw.exact_match for draw in found.draws] == correct[:expected]
    assert [draw.question_id for draw in found.draws] == [
        windows.questions[i].question_id for i in numbers[:expected]
    ]
    assert found.reached == 6 and found.accuracy == 5 / (expected - 1)
    counts = np.bincount(numbers[:expected])
    assert found.repeated == {int(i): int(counts[i]) for i in np.flatnonzero(counts > 1)}
    assert list(found.repeated.values()) == sorted(found.repeated.values(), reverse=True)


def test_gives_up_at_the_cap(model, windows, known):
    found = efficacy.measure(model, windows, num_correct=1000, max_draws=300, seed=5)
    assert len(found.draws) == 300  # more than are answered at once
    assert found.reached == sum(
        number in known for number in efficacy.draw(len(windows.questions), 300, seed=5).tolist()
    )
    assert found.accuracy == found.reached / 300


def test_the_estimate_has_no_bias():
    """The mean over many draws of a model that is right for 30 % of the questions."""
    rng, estimates, shares = np.random.default_rng(0), [], []
    for _ in range(4000):
        draws = []
        while sum(draw.exact_match for draw in draws) < 3:
            draws.append(efficacy.Draw(0, "", "", bool(rng.random() < 0.3), 0.0))
        found = efficacy.Efficacy(draws, 3)
        estimates.append(found.accuracy)
        shares.append(found.reached / len(draws))
    assert np.mean(estimates) == pytest.approx(0.3, abs=0.012) and np.mean(shares) > 0.35


def test_batches_change_nothing(model, windows):
    one, many = (
        efficacy.measure(model, windows, num_correct=5, seed=1, batch_size=size) for size in (3, 64)
    )
    assert [draw[:4] for draw in one.draws] == [draw[:4] for draw in many.draws]


def test_replay_of_another_model(model, windows):
    other = preferring(PLACES)
    numbers = efficacy.draw(len(windows.questions), 150, seed=8)
    again, found = (
        efficacy.replay(model, windows, numbers),
        efficacy.replay(other, windows, numbers),
    )
    assert (
        [draw.question for draw in found.draws]
        == [draw.question for draw in again.draws]
        == numbers.tolist()
    )
    assert [draw.answer for draw in found.draws] != [draw.answer for draw in again.draws]
    assert found.accuracy == found.reached / 150


def test_no_answer_may_be_right():
    """In SQuAD 2.0 a model that always says so has the unanswerable questions right."""
    _, windows = squad.synthetic_windows(num_clients=4, unanswerable=0.5)

    class Silent(tf.keras.Model):
        def call(self, inputs):
            return tf.tile(tf.one_hot(tf.zeros_like(inputs["input_ids"][:, :1]), 48), [1, 2, 1])

    found = efficacy.measure(Silent(), windows, num_correct=10)
    unanswerable = {i for i, question in enumerate(windows.questions) if not question.answers}
    assert (
        found.reached == 10
        and {draw.question for draw in found.draws if draw.exact_match} <= unanswerable
    )
    assert all(draw.answer == "" for draw in found.draws)


def test_hashes(model, windows):
    other = fl.models.clone(model)
    assert efficacy.weights_sha256(other) == efficacy.weights_sha256(model)
    other.weights[-1].assign_add(tf.fill(other.weights[-1].shape, 1e-6))
    assert efficacy.weights_sha256(other) != efficacy.weights_sha256(model)
    first, second = windows.questions[:2]
    assert efficacy.questions_sha256([first, second]) != efficacy.questions_sha256([second, first])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_correct": 0}, "num_correct=0: expected an integer of at least 1"),
        ({"num_correct": 1, "max_draws": 0}, "max_draws=0"),
        ({"num_correct": 1, "batch_size": True}, "batch_size=True: expected"),
        ({"num_correct": 1, "seed": -1}, "seed=-1"),
    ],
    ids=str,
)
def test_mistakes(model, windows, options, message):
    with pytest.raises(ValueError, match=message):
        efficacy.measure(model, windows, **options)


def test_mistakes_of_a_replay(model, windows):
    for numbers in ([], [0, len(windows.questions)], [-1]):
        with pytest.raises(ValueError, match="expected one or more indices from 0 to 47"):
            efficacy.replay(model, windows, numbers)


# ---- The file ----


def draws(*outcomes):
    return [
        efficacy.Draw(i % 3, f"q{i % 3}", f"answer {i}", outcome, 0.5)
        for i, outcome in enumerate(outcomes)
    ]


def state(name="before", digest="00"):
    return efficacy_database.ModelState(digest, name, f"/runs/{name}.keras")


def test_what_is_recorded_is_read(tmp_path):
    file = tmp_path / "e.sqlite"
    efficacy_database.check(file)
    assert not file.exists()
    assert (
        efficacy_database.record(
            file, state(), QUESTIONS, SETTINGS, draws(True, False, False, True)
        )
        == 1
    )
    assert (
        efficacy_database.record(
            file, state("after", "01"), QUESTIONS, SETTINGS, draws(True, True, False, False), 1
        )
        == 2
    )
    assert efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True)) == 3
    found = efficacy_database.read(file, 1)
    assert found == (SETTINGS, "ab12", [(0, 1), (1, 0), (2, 0), (0, 1)])
    with sqlite3.connect(file) as connection:
        rows = connection.execute(
            "SELECT state_id, set_id, replay_of, drawn, correct, distinct_questions FROM runs"
        ).fetchall()
        assert rows == [(1, 1, None, 4, 2, 3), (2, 1, 1, 4, 2, 3), (1, 1, None, 1, 1, 1)]
        assert connection.execute("SELECT COUNT(*) FROM model_states").fetchone() == (2,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize(
    "text", [efficacy_database.__doc__, README.read_text()], ids=["module", "README"]
)
def test_the_documented_query_compares_states(tmp_path, text):
    file = tmp_path / "e.sqlite"
    efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True, False, False, True))
    efficacy_database.record(
        file, state("after", "01"), QUESTIONS, SETTINGS, draws(True, True, True, False), 1
    )
    [query] = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    with sqlite3.connect(file) as connection:
        assert connection.execute(query).fetchall() == [("before", "after", 4, 2, 3, 2, 1)]


def test_the_tables_hold_to_their_keys(tmp_path):
    file = tmp_path / "e.sqlite"
    efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True))
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute("INSERT INTO draws VALUES (7, 0, 0, 'q', '', 0, 0.0)")
        connection.execute("DELETE FROM runs")
        assert connection.execute("SELECT COUNT(*) FROM draws").fetchone() == (0,)


@pytest.mark.parametrize("replay_of", [None, 99])
def test_a_run_is_written_whole_or_not_at_all(tmp_path, replay_of):
    """What fails at the last draw, or at a run that is not there, leaves what was there before."""
    file = tmp_path / "e.sqlite"
    efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True))
    before = file.read_bytes()
    broken = [*draws(True, True), efficacy.Draw(0, "q0", "", True, 0.0 if replay_of else None)]
    with pytest.raises(ValueError, match="cannot be used as the database .*constraint failed"):
        efficacy_database.record(file, state("new", "02"), QUESTIONS, SETTINGS, broken, replay_of)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [
        "e.sqlite"
    ]


def test_a_file_that_another_run_writes_to(tmp_path, monkeypatch):
    file = tmp_path / "e.sqlite"
    efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True))
    monkeypatch.setattr(efficacy_database, "_TIMEOUT_S", 0.05)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ValueError, match="database is locked"):
        efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True))
    other.execute("ROLLBACK")
    other.close()
    assert efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True)) == 2


def foreign(file):
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")


def of_another_version(file):
    efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True))
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 2")


def cut_off(file):
    efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(*[True] * 3000))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda file: file.write_bytes(b"no database" * 100),
            "cannot be used as the database .file is not a database",
        ),
        (foreign, "expected a database of this module"),
        (of_another_version, "version 2: expected 1"),
        (cut_off, "cannot be used as the database .database disk image is malformed"),
        (
            lambda file: file.write_bytes(b"SQLite format 3"),
            "expected a SQLite file, got one that is cut off",
        ),
        (lambda file: file.mkdir(), "expected a SQLite file.*, got a folder"),
    ],
    ids=["text", "foreign", "version", "cut off", "short", "folder"],
)
def test_files_of_other_kinds_are_refused(tmp_path, make, message):
    file = tmp_path / "e.sqlite"
    make(file)
    before = None if file.is_dir() else file.read_bytes()
    for use in (
        efficacy_database.check,
        lambda path: efficacy_database.record(path, state(), QUESTIONS, SETTINGS, draws(True)),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            use(file)
        assert "\n" not in str(caught.value)
        if file.is_dir():
            return
    assert file.read_bytes() == before


def test_files_and_runs_that_are_not_there(tmp_path):
    file = tmp_path / "e.sqlite"
    with pytest.raises(
        FileNotFoundError, match="nowhere': expected an existing folder for the database"
    ):
        efficacy_database.check(tmp_path / "nowhere" / "e.sqlite")
    with pytest.raises(
        FileNotFoundError, match="e.sqlite': expected a database with a run to replay"
    ):
        efficacy_database.read(file, 1)
    file.touch()
    with pytest.raises(ValueError, match="run 1 .*: expected one of none"):
        efficacy_database.read(file, 1)
    efficacy_database.record(file, state(), QUESTIONS, SETTINGS, draws(True))
    with pytest.raises(ValueError, match="run 2 .*: expected one of 1"):
        efficacy_database.read(file, 2)
