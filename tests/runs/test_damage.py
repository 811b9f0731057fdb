"""A damaged or hostile run folder causes a one-line error and does not hide other runs."""

import contextlib
import json
import math
import random
import shutil
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab import cli
from fedlab.runs.read.recorded import read_run
from fedlab.runs.write.records import Records
from tests.runs.tables import change

CONFIG = {
    "format_version": 2,
    "seed": 0,
    "rounds": 3,
    "num_clients": 3,
    "evaluation_examples": {"test": 4, "each": {"clients": 3, "test": 6}},
    "model": ["Dense"],
    "layers": [{"class": "Dense", "units": 1}],
    "versions": {"fedlab": "0"},
}


def write_run(
    folder, client_ids=("ann", "bob", "é😀"), metrics=(0.5, 0.25, 0.125, 1 / 3), **config
):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    with contextlib.closing(Records(folder / "clients.sqlite")) as records:
        for round_num, loss in enumerate(metrics):
            row = {"round": round_num, "test_loss": loss, "each_loss": loss}
            trained = {
                "seconds": 1.5,
                "bytes_down": 8,
                "bytes_up": 8,
                "clients_asked": 3,
                "clients_finished": 2,
                "clients_dropped": 1,
            }
            counts = {"num_examples": 2, "num_tokens": 2, "num_steps": 1, "weight": 2.0}
            clients = [
                {
                    "client_id": client_id,
                    **counts,
                    "loss": loss,
                    "dropped": client_id == "bob",
                    "reason": "",
                    "metrics": {"accuracy": loss},
                }
                for client_id in client_ids
            ]
            each = [
                {
                    "part": "each",
                    "client_id": client_id,
                    "num_examples": 2.0,
                    "metric": "loss",
                    "value": loss,
                }
                for client_id in client_ids
            ]
            records.add(
                1.7e9 + round_num,
                {**row, **(trained if round_num else {})},
                clients if round_num else [],
                each,
            )
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "good")


def contents(folder):
    """Everything that is read of a run's tables."""
    run = read_run(folder)
    parts = run.query(
        "SELECT part, round, COUNT(*) FROM evaluations GROUP BY part, round ORDER BY part, round"
    )
    taken = run.query(
        "SELECT client_id, SUM(dropped IS NOT 1) FROM clients GROUP BY client_id ORDER BY client_id"
    )
    return run.history, run.times, run.rows("clients"), run.rows("evaluations"), parts, taken


def test_every_flipped_bit_is_noticed_or_harmless(good, tmp_path):
    """If a damaged file is read without an error, its content is unchanged."""
    folder, wanted = shutil.copytree(good, tmp_path / "run"), contents(good)
    data = (good / "clients.sqlite").read_bytes()
    rng = random.Random(0)
    written = [i for i, byte in enumerate(data) if byte]
    places = [
        *range(100),
        *rng.sample(written, min(500, len(written))),
        *rng.sample(range(len(data)), 200),
    ]
    noticed = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        (folder / "clients.sqlite").write_bytes(flipped)
        try:
            assert contents(folder) == wanted, place
        except ValueError as error:
            assert "clients.sqlite is damaged (" in str(error) and "\n" not in str(error)
            noticed += 1
        try:
            with contextlib.closing(Records(folder / "clients.sqlite")) as records:
                assert [row for _, row in records.rounds()] == wanted[0], place
        except ValueError as error:
            assert "clients.sqlite is damaged (" in str(error), place
        except (
            sqlite3.OperationalError
        ) as error:  # as a bit of the file's header says; the run folder names it
            assert "readonly" in str(error), place
    assert noticed > 400


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE clients SET loss = 0.4999 WHERE client_id = 'ann' AND round = 2",
        "DELETE FROM clients WHERE client_id = 'ann' AND round = 2",
        "UPDATE evaluations SET client_id = 'cat' WHERE client_id = 'ann' AND round = 3",
        "UPDATE rounds SET time = time + 1 WHERE round = 1",
        "DELETE FROM rounds WHERE round = 3",
        "DELETE FROM rounds WHERE round = 1",
        "CREATE TRIGGER later AFTER INSERT ON rounds BEGIN DELETE FROM clients; END",
    ],
)
def test_a_changed_table_is_noticed(good, tmp_path, statement):
    folder = shutil.copytree(good, tmp_path / "run")
    with contextlib.closing(sqlite3.connect(folder / "clients.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()
    for read in (read_run, lambda folder: Records(folder / "clients.sqlite")):
        with pytest.raises(
            ValueError, match="clients.sqlite is damaged .*: restore an undamaged copy"
        ):
            read(folder)


def test_checksums_survive_a_rewind(tmp_path):
    folder = write_run(tmp_path / "run")
    with contextlib.closing(Records(folder / "clients.sqlite")) as records:
        records.rewind(1)
        records.add(1.7e9, {"round": 2, "test_loss": 0.75}, [], [])
    assert [row["test_loss"] for row in read_run(folder).history] == [0.5, 0.25, 0.75]


def nested(levels):
    return "[" * levels + "]" * levels


def row(**changes):
    return (
        "UPDATE rounds SET row = ? WHERE round = 2",
        json.dumps({"round": 2, "test_loss": 0.5, **changes}),
    )


# Statements that change a run's tables, or settings: all with checksums that belong to them.
HOSTILE = {
    "infinite_seconds": row(seconds=math.inf),
    "nan_seconds": row(seconds=math.nan),
    "negative_bytes": row(bytes_up=-1),
    "huge_bytes": row(bytes_up=1e300),
    "huge_int": row(test_loss=10**400),
    "longest_int": (
        "UPDATE rounds SET row = ? WHERE round = 2",
        f'{{"round": 2, "test_loss": {"9" * 5000}}}',
    ),
    "text_in_row": row(test_loss="low"),
    "list_in_row": row(test_loss=[0.5]),
    "nested_row": (
        "UPDATE rounds SET row = ? WHERE round = 2",
        f'{{"round": 2, "test_loss": {nested(900)}}}',
    ),
    "other_round": row(round=1),
    "no_object": ("UPDATE rounds SET row = '[1]' WHERE round = 2",),
    "blob_row": ("UPDATE rounds SET row = x'80ff' WHERE round = 2",),
    "late_time": ("UPDATE rounds SET time = 1e12 WHERE round = 2",),
    "infinite_time": ("UPDATE rounds SET time = 9e999 WHERE round = 2",),
    "negative_time": ("UPDATE rounds SET time = -1e18 WHERE round = 2",),
    "text_loss": ("UPDATE clients SET loss = 'low' WHERE round = 2",),
    "blob_id": ("UPDATE clients SET client_id = x'80ff' WHERE round = 2 AND client_id = 'ann'",),
    "no_id": ("UPDATE evaluations SET client_id = NULL WHERE round = 2 AND client_id = 'ann'",),
    "nested_config": f'{{"format_version": 2, "seed": {nested(900)}}}',
    "deep_config": f'{{"format_version": 2, "seed": {nested(100_000)}}}',
    "nested_version": f'{{"format_version": {nested(90)}, "versions": {{"fedlab": {nested(90)}}}}}',
    "huge_rounds": json.dumps({**CONFIG, "rounds": 10**400}),
    "huge_set": json.dumps({**CONFIG, "evaluation_examples": {"test": 10**400}}),
    "text_in_set": json.dumps(
        {**CONFIG, "evaluation_examples": {"each": {"clients": "three", "test": 1}}}
    ),
    "list_of_sets": json.dumps({**CONFIG, "evaluation_examples": {"test": [1]}}),
    "escape_in_config": json.dumps({**CONFIG, "rounds": "\x1b[2J\x9b31m\u202e"}),
}
ESCAPES = "\x1b[2J\x9b31m\u202e\r\n\x07"


@pytest.fixture(scope="module")
def hostile(good, tmp_path_factory):
    """A folder with a run of each kind, a good one, and one with escape sequences in every text."""
    runs = tmp_path_factory.mktemp("hostile") / "runs"
    for name, damage in HOSTILE.items():
        folder = shutil.copytree(good, runs / name)
        if isinstance(damage, str):
            (folder / "config.json").write_text(damage)
        else:
            change(folder / "clients.sqlite", damage)
    shutil.copytree(good, runs / "good")
    sets = {f"each{ESCAPES}": {"clients": 3, "test": 6}, "test": 4}
    folder = write_run(
        runs / "escapes",
        [ESCAPES, "b", "c"],
        evaluation_examples=sets,
        **{f"setting{ESCAPES}": ESCAPES, "model": [ESCAPES]},
    )
    change(
        folder / "clients.sqlite",
        ("UPDATE clients SET reason = ?, dropped = 1 WHERE client_id = ?", ESCAPES, ESCAPES),
        ("UPDATE evaluations SET part = ?, metric = ?", f"each{ESCAPES}", f"loss{ESCAPES}"),
        row(**{f"each{ESCAPES}_loss{ESCAPES}": 0.5}),
    )
    return runs


def printed(capsys, *arguments):
    """(exit code, what a command printed), which holds nothing that a terminal obeys."""
    code = cli.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in out + err), (out, err)
    assert "Traceback" not in err and err.count("\n") == (code != 0)
    return code, out, err


def test_a_damaged_run_does_not_hide_the_others(capsys, hostile):
    code, out, _ = printed(capsys, "runs", "list", hostile)
    lines = out.splitlines()
    damaged = {line.split()[0] for line in lines if "  ! " in line}
    assert (
        code == 0
        and damaged == set(HOSTILE)
        and max(len(line) for line in lines if "  ! " in line) < 600
    )
    assert sum(line.startswith(("good ", "escapes ")) for line in lines) == 2
    code, out, _ = printed(capsys, "runs", "list", hostile, "--json")
    assert code == 0 and sum("problem" in each for each in json.loads(out)) == len(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_run_is_named_by_every_command(capsys, hostile, tmp_path, name):
    commands = [
        ["runs", "show", hostile / name],
        ["runs", "compare", hostile / "good", hostile / name],
        ["runs", "export", hostile / name, "--table=clients", f"--output={tmp_path / 'a.csv'}"],
        ["report", hostile / name, f"--output={tmp_path / 'r.html'}"],
    ]
    for command in commands:
        code, out, err = printed(capsys, *command)
        assert code == 2 and out == "" and str(hostile / name) in err and len(err) < 1000
    assert not [*tmp_path.iterdir()]


def test_escape_sequences_do_not_reach_the_terminal(capsys, hostile, tmp_path):
    escapes = hostile / "escapes"
    code, out, _ = printed(capsys, "runs", "show", escapes)
    assert code == 0 and r"setting\x1b[2J" in out
    assert printed(capsys, "runs", "show", escapes, "--json")[0] == 0
    code, out, _ = printed(
        capsys,
        "runs",
        "compare",
        hostile / "good",
        escapes,
        f"--plot={tmp_path / 'p.png'}",
        "--metric=test_loss",
    )
    assert code == 0 and r"\x1b[2J" in out
    assert printed(capsys, "report", escapes, f"--output={tmp_path / 'r.html'}")[0] == 0
    code, out, _ = printed(capsys, "runs", "export", escapes, "--format=json", "--table=clients")
    assert code == 0 and json.loads(out)[0]["client_id"] == ESCAPES


@pytest.mark.parametrize(
    "values",
    [[1e308, -1e308, 1e308], [math.inf, 1e-300, math.nan], [1e18, 10**18, -(10**18)]],
    ids=str,
)
def test_a_report_of_extreme_numbers(capsys, tmp_path, values):
    folder = write_run(tmp_path / "run", metrics=[0.5, *values])
    assert printed(capsys, "report", folder)[0] == 0
    for command in (
        ["show", folder],
        ["list", tmp_path],
        ["export", folder],
        ["compare", folder, folder, f"--plot={tmp_path / 'a.png'}"],
    ):
        assert printed(capsys, "runs", *command)[0] == 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from([*CONFIG, "stopped", "other"]), values),
    st.dictionaries(st.text() | st.just("seconds"), values),
)
def test_any_settings_and_rows_are_listed(good, tmp_path_factory, config, more):
    runs = tmp_path_factory.mktemp("fuzz")
    folder = shutil.copytree(good, runs / "run")
    shutil.copytree(good, runs / "good")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    change(folder / "clients.sqlite", row(**more))
    for command in (["runs", "list", runs], ["runs", "list", runs, "--json"]):
        assert cli.main([*map(str, command)]) == 0
    try:
        read_run(folder)
    except ValueError:
        return
    for command in (
        ["show", folder],
        ["show", folder, "--json"],
        ["compare", folder, runs / "good"],
        ["export", folder],
    ):
        assert cli.main(["runs", *map(str, command)]) == 0
