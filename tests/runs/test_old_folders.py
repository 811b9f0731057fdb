"""Run folders of earlier versions of fedlab are read and resumed, or refused in one line."""

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import sqlite3

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import stack
from fedlab.runs.write.checkpoints import decode
from tests.quadratics import linear_model, points

# Format version 2 as fedlab wrote it before its restructuring, so not taken from the package.
TABLES = """
CREATE TABLE rounds (round INTEGER PRIMARY KEY, time REAL, row TEXT, checksum TEXT);
CREATE TABLE clients (round INTEGER, client_id TEXT, num_examples INTEGER, num_tokens INTEGER, \
num_steps INTEGER, weight REAL, loss REAL NULL, dropped INTEGER, reason TEXT, metrics TEXT, \
PRIMARY KEY (round, client_id));
CREATE TABLE evaluations (round INTEGER, part TEXT, client_id TEXT, num_examples REAL, \
metric TEXT, value REAL, PRIMARY KEY (round, part, client_id, metric));
"""
CONFIG = {
    "format_version": 2,
    "rounds": 1,
    "num_clients": 2,
    "seed": 0,
    "batching": {"batch_size": 8},
    "evaluation_examples": {
        "central": 4,
        "each": {"clients": 2, "test": 4, "own": 6},
        "personal": {"own": 6, "test": 4},
    },
    "versions": {"fedlab": "0.1.0"},
}
CLIENTS = [
    (1, "ann", 3, 3, 1, 3.0, 0.25, 0, "", '{"mae": 0.5}'),
    (1, "bob", 3, 3, 0, 0.0, None, 1, "dropout", "{}"),
]
EVALUATIONS = [(r, "each", name, 2.0, "loss", 0.5 - r / 4) for r in (0, 1) for name in ("a", "b")]


def write_old_run(folder):
    """Writes the files of a run of one round that are read by reports and listings."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.keras").write_bytes(b"")
    with contextlib.closing(sqlite3.connect(folder / "clients.sqlite")) as connection:
        connection.executescript(TABLES)
        connection.executemany(f"INSERT INTO clients VALUES ({'?, ' * 9}?)", CLIENTS)
        connection.executemany(f"INSERT INTO evaluations VALUES ({'?, ' * 5}?)", EVALUATIONS)
        last = ""
        for round_num in (0, 1):
            metrics = {"central_loss": 0.5 - round_num / 4, "each_loss": 0.5 - round_num / 4}
            row = (round_num, 1.7e9 + round_num, json.dumps({"round": round_num, **metrics}))
            tables = (
                [each for each in rows if each[0] == round_num] for rows in (CLIENTS, EVALUATIONS)
            )
            text = f"{last} {row!r}" + "".join(map(repr, tables))
            last = hashlib.sha256(text.encode()).hexdigest()
            connection.execute("INSERT INTO rounds VALUES (?, ?, ?, ?)", (*row, last))
        connection.commit()
    return folder


def test_an_old_run_is_read(tmp_path):
    folder = write_old_run(tmp_path / "run")
    run = fl.runs.read_run(folder)
    assert run.finished and run.rounds_done == 1 and run.per_client_parts == ["each"]
    assert run.curve("central_loss") == ([0, 1], [0.5, 0.25])
    assert [row["client_id"] for row in run.rows("clients")] == ["ann", "bob"]
    assert [row["value"] for row in run.rows("evaluations")] == [0.5, 0.5, 0.25, 0.25]
    page = fl.write_report(folder).read_text()
    assert "fine-tuned: after training on local examples" in page
    assert "clients that first fine-tune on local examples; 4 test examples" in page


def test_an_old_checkpoint_is_read():
    half = np.array([1.5, -2.0], np.float32).astype(tf.bfloat16.as_numpy_dtype)
    about = {"about": {"round": 3}, "num_arrays": 3, "dtypes": {"2": "bfloat16"}}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        array_00000=np.arange(3.0),
        array_00002=half.view(np.uint16),
    )
    data = buffer.getvalue()
    checkpoint = decode(data + hashlib.sha256(data).digest())
    assert checkpoint.about == {"round": 3} and checkpoint.arrays[1] is None
    assert checkpoint.arrays[0].tolist() == [0, 1, 2]
    assert checkpoint.arrays[2].dtype == half.dtype and (checkpoint.arrays[2] == half).all()


def simulate(folder, rounds):
    clients, local = points([2, 4], [3, 1]), points([1, 3], [2, 2])
    run = fl.simulate(
        linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0),
        clients,
        rounds=rounds,
        clients_per_round=1,
        evaluate_on={"each": fl.per_client(clients, local)},
        run_dir=folder,
        progress=False,
    )
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]
    return [w.tobytes() for w in run.model.get_weights()], rows, list(run.evaluations)


@pytest.fixture(scope="module")
def one_round(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    simulate(folder, rounds=1)
    return folder


def change_config(folder, **changes):
    file = pathlib.Path(folder) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.slow
def test_an_old_run_is_resumed(one_round, tmp_path):
    """Its config.json calls the local examples of clients "own"."""
    folder = shutil.copytree(one_round, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    for name in ("evaluation_examples", "evaluation_data"):
        about = config[name]["each"]
        about["own"] = about.pop("local")
        change_config(folder, **{name: {"each": about}})
    assert simulate(folder, rounds=2) == simulate(tmp_path / "whole", rounds=2)


def test_a_run_without_a_stack_is_one_of_the_tff_stack(one_round, tmp_path):
    folder = shutil.copytree(one_round, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    del config["stack"]
    (folder / "config.json").write_text(json.dumps(config))
    assert fl.runs.read_run(folder).config["stack"] == "tff"
    if stack.name() == "tff":
        assert simulate(folder, rounds=2) == simulate(tmp_path / "whole", rounds=2)
    else:
        with pytest.raises(ValueError, match="holds a run of another stack .tff stack, Tensor"):
            simulate(folder, rounds=2)


def test_a_folder_of_format_version_1_is_refused(one_round, tmp_path):
    folder = shutil.copytree(one_round, tmp_path / "run")
    change_config(folder, format_version=1, versions={"fedlab": "0.0.1"})

    def contents():
        files = (file for file in folder.rglob("*") if file.is_file() and file.name != "lock")
        return {file: file.read_bytes() for file in files}

    before = contents()
    message = "is a run folder of format version 1, written by fedlab 0.0.1: expected version 2, .*"
    for use in (fl.runs.read_run, fl.write_report, lambda folder: simulate(folder, rounds=2)):
        with pytest.raises(ValueError, match=message + "start a new run folder$") as info:
            use(folder)
        assert "\n" not in str(info.value)
    assert contents() == before
