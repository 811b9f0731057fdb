"""The run folder: its files, what damages them, who may use it, and what stops a run."""

import contextlib
import csv
import json
import logging
import math
import os
import pathlib
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import fedlab as fl
from fedlab.algorithms.algorithm import wrap
from fedlab.cli._ending import ending_on_sigterm
from fedlab.runs.read.tables import ClientRows
from fedlab.runs.write.checkpoints import Checkpoints
from fedlab.runs.write.records import Records
from tests.limits import files_of_at_most
from tests.quadratics import linear_model, points, regressions
from tests.runs import killable
from tests.runs.test_kill import scalars
from tests.terminal import as_on_a_terminal

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(folder, rounds=4):
    return killable.run("local", folder, rounds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def two_rounds(tmp_path, made_two_rounds):
    return pathlib.Path(shutil.copytree(made_two_rounds, tmp_path / "run"))


@pytest.fixture(scope="module")
def made_two_rounds(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "two", rounds=2).path


def same(first, second):
    history = [[killable_row(row) for row in run.history] for run in (first, second)]
    weights = [[w.tobytes() for w in run.model.get_weights()] for run in (first, second)]
    return weights[0] == weights[1] and history[0] == history[1] and first.clients == second.clients


def killable_row(row):
    return {name: value for name, value in row.items() if name not in killable.SECONDS}


# What is in it.


def test_config_says_the_versions_and_the_commit(whole):
    config = json.loads((whole.path / "config.json").read_text())
    assert (
        config["format_version"] == 2 and config["algorithm"] == "scaffold" and config["seed"] == 3
    )
    assert config["versions"]["tensorflow"] == tf.__version__
    assert config["versions"]["keras"] == keras.__version__
    assert {"fedlab", "numpy", "python"} < set(config["versions"])
    assert config["commit"] is None or len(config["commit"].rstrip("+")) == 40


@pytest.mark.slow
def test_clients_are_read_from_the_folder_as_they_are_without_one(whole):
    in_memory = run(None).clients
    assert isinstance(in_memory, list) and list(whole.clients) == in_memory == list(
        ClientRows(whole.path / "clients.sqlite")
    )
    assert (
        whole.clients[3] == in_memory[3]
        and whole.clients[-2:] == in_memory[-2:]
        and whole.clients[::-1] == in_memory[::-1]
    )
    assert (
        len(whole.clients) == 16 and whole.clients == in_memory and whole.clients != in_memory[1:]
    )
    assert whole.clients[5:2] == [] and "16 rows of" in repr(whole.clients)
    with pytest.raises(IndexError, match="row 16 of 16 clients"):
        whole.clients[16]
    with pytest.raises(IndexError):
        whole.clients[-17]


def test_the_tables_of_clients_sqlite(whole):
    with contextlib.closing(sqlite3.connect(whole.path / "clients.sqlite")) as connection:
        lost = connection.execute(
            "SELECT COUNT(*) FROM clients WHERE reason = 'dropout' AND dropped = 1 AND loss IS NULL"
        ).fetchone()[0]
        assert connection.execute("SELECT row FROM rounds WHERE round = 4").fetchone()[
            0
        ] == json.dumps(whole.history[4])
        keys = {
            table: [
                name
                for _, name, *_, key in connection.execute(f"PRAGMA table_info({table})")
                if key
            ]
            for table in ("clients", "evaluations")
        }
    assert lost == sum(row["clients_dropped"] for row in whole.history[1:]) > 0
    assert keys == {
        "clients": ["round", "client_id"],
        "evaluations": ["round", "part", "client_id", "metric"],
    }


def test_tensorboard_shows_what_metrics_csv_says(whole):
    """TensorBoard's own reader finds exactly the numbers of the table."""
    with open(whole.path / "metrics.csv") as file:
        table = [*csv.DictReader(file)]
    wanted = {
        name: [(int(row["round"]), np.float32(row[name])) for row in table if row[name]]
        for name in table[0].keys() - {"round"}
    }
    reader = EventAccumulator(str(whole.path / "events")).Reload()
    shown = {
        tag: [(event.step, np.float32(event.value)) for event in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }
    assert shown == wanted and len(shown) > 10 and len(table) == 5
    times = [event.wall_time for event in reader.Scalars("other_loss")]
    assert times == sorted(times) and time.time() - 3600 < times[0]


@pytest.mark.slow
def test_a_run_that_goes_on_has_each_event_once(two_rounds, whole):
    run(two_rounds)
    assert scalars(two_rounds) == scalars(whole.path)


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_is_none(tmp_path):
    clients = fl.ClientData.from_dict(
        {
            name: {"x": np.full([2, 1], value), "y": np.ones([2, 1])}
            for name, value in {"good": 1.0, "bad": math.nan}.items()
        }
    )
    for folder in (None, tmp_path / "run"):
        model = linear_model(1, tf.keras.optimizers.SGD(0.1))
        rows = {
            row["client_id"]: row
            for row in fl.simulate(
                model, clients, rounds=1, cohort=["good", "bad"], run_dir=folder
            ).clients
        }
        assert (
            rows["bad"]["loss"] is None
            and rows["bad"]["reason"] == "not finite"
            and rows["good"]["loss"] > 0
        )


def test_a_cohort_that_names_a_client_twice_is_refused():
    clients, _, _ = regressions()
    model = linear_model(3, tf.keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="cohort of round 1 contains a client twice"):
        fl.simulate(
            model,
            clients,
            rounds=1,
            cohort=lambda client_ids, round_num, seed: ["c0", "c0"],
            progress=False,
        )


def client_row(client_id, **changes):
    return {
        "client_id": client_id,
        **dict.fromkeys(["num_examples", "num_tokens", "num_steps"], 1),
        **{
            "weight": 1.0,
            "loss": 0.5,
            "dropped": False,
            "reason": "",
            "metrics": {"accuracy": 0.25},
        },
        **changes,
    }


def test_records_are_rewound_with_all_their_tables(tmp_path):
    records = Records(tmp_path / "clients.sqlite")
    score = {
        "part": "other",
        "client_id": "é😀",
        "num_examples": 3.0,
        "metric": "accuracy",
        "value": 0.5,
    }
    for round_num in range(4):
        records.add(
            float(round_num),
            {"round": round_num, "loss": math.nan},
            [client_row("é😀", dropped=None, weight=None)],
            [score],
        )
    assert records.counts == {"rounds": 4, "clients": 4, "evaluations": 4}
    with pytest.raises(sqlite3.IntegrityError):  # all of a round or nothing
        records.add(4.0, {"round": 4}, [client_row("a"), client_row("a")], [])
    assert records.last_round() == 3
    records.rewind(1)
    assert records.last_round() == 1 and records.counts == {
        "rounds": 2,
        "clients": 2,
        "evaluations": 2,
    }
    assert [(t, row["round"]) for t, row in records.rounds()] == [
        (0.0, 0),
        (1.0, 1),
    ] and math.isnan(records.rounds()[1][1]["loss"])
    records.close()
    rows = ClientRows(tmp_path / "clients.sqlite")
    assert (
        rows[1] == {"round": 1, **client_row("é😀", dropped=None, weight=None)} and len(rows) == 2
    )


# Who may use it.


def test_a_second_process_is_refused(two_rounds, whole):
    hold = (
        "import pathlib, sys; from fedlab.runs.write.lock import hold\n"
        "lock = hold(pathlib.Path(sys.argv[1]) / 'lock')\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(two_rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert other.stdout.readline() == b"held\n"
        before = {file: file.read_bytes() for file in two_rounds.rglob("*") if file.is_file()}
        with pytest.raises(
            ValueError,
            match=f"run is in use by process {other.pid}: wait until that run ends or choose",
        ):
            run(two_rounds)
        assert {
            file: file.read_bytes() for file in two_rounds.rglob("*") if file.is_file()
        } == before
    finally:
        other.kill()
        other.communicate()
    assert same(run(two_rounds), whole)


@pytest.mark.parametrize(
    "version, message",
    [
        (None, "of format version None, written by fedlab 9.9"),
        (1, "of format version 1, written by fedlab 9.9"),
        (7, "of format version 7, written by fedlab 9.9"),
    ],
)
def test_a_folder_of_another_format_version_is_refused(two_rounds, version, message):
    config = json.loads((two_rounds / "config.json").read_text())
    config |= {"format_version": version, "versions": {"fedlab": "9.9"}}
    (two_rounds / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError,
        match=f"{message}: expected version 2.* wrote it or start a new run folder",
    ):
        run(two_rounds)


def test_config_says_the_stack(whole):
    config = json.loads((whole.path / "config.json").read_text())
    assert config["stack"] == ("tff" if keras.__version__.startswith("2.") else "modern")


@pytest.mark.slow
def test_a_run_of_another_stack_is_refused(two_rounds, whole):
    config = json.loads((two_rounds / "config.json").read_text())
    this = config["stack"]
    other = {"tff": "modern", "modern": "tff"}[this]
    changed = {"stack": other, "seed": 9, "versions": {"tensorflow": "9.8"}}
    (two_rounds / "config.json").write_text(json.dumps({**config, **changed}))
    expected = (
        f"{two_rounds} holds a run of another stack ({other} stack, TensorFlow 9.8): expected this "
        f"one ({this} stack, TensorFlow {tf.__version__}), because the stacks round numbers "
        "differently; resume it with the stack that started it (in fedlab's repository: "
        f"--stack={other}) or choose another run folder"
    )
    with pytest.raises(ValueError) as info:
        run(two_rounds)
    assert str(info.value) == expected
    # Refusing it changes nothing, and it can still be read.
    assert fl.runs.read_run(two_rounds).config["stack"] == other
    (two_rounds / "config.json").write_text(json.dumps(config))
    assert same(run(two_rounds), whole)


@pytest.mark.parametrize("stack", [None, 5, ["modern"], "keras4"])
def test_a_damaged_stack_is_refused(two_rounds, stack):
    config = json.loads((two_rounds / "config.json").read_text())
    config |= {"stack": stack, "versions": None}
    (two_rounds / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds a run of another stack .*of unknown version"):
        run(two_rounds)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"a"', "null"])
def test_a_damaged_config_is_named(two_rounds, text):
    (two_rounds / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json is damaged"):
        run(two_rounds)


@pytest.mark.slow
def test_what_an_interrupted_first_start_left_is_a_new_folder(tmp_path, whole):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("123\n")
    (tmp_path / "run" / "config.json.tmp").write_text("{")
    assert same(run(tmp_path / "run"), whole)


# Damage.


def remove(folder, *names):
    for name in names:
        (folder / name).unlink()


@pytest.mark.slow
def test_a_missing_checkpoint_is_named_and_the_one_before_is_used(two_rounds, whole, caplog):
    remove(two_rounds, "checkpoints/round_000002.npz")
    with caplog.at_level(logging.WARNING, "fedlab"):
        assert same(run(two_rounds), whole)
    assert (
        "round_000002.npz is missing: the run ended before it was written, or it was removed"
        in caplog.text
    )


@pytest.mark.slow
def test_a_damaged_checkpoint_is_reported_once(two_rounds, whole, caplog):
    file = two_rounds / "checkpoints" / "round_000002.npz"
    file.write_bytes(file.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, "fedlab"):
        assert same(run(two_rounds), whole)
    (record,) = caplog.records
    assert "round_000002.npz is damaged" in record.getMessage()
    assert "resumes from the checkpoint of round 1" in record.getMessage()


@pytest.mark.slow
def test_without_checkpoints_or_with_damaged_ones_alone_a_run_is_refused(two_rounds, whole):
    good = shutil.copytree(two_rounds / "checkpoints", two_rounds.parent / "checkpoints")
    for file in (two_rounds / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ValueError,
        match=r"checkpoints is damaged \(round_000001.npz, round_000002.npz\): restore",
    ):
        run(two_rounds)
    shutil.rmtree(two_rounds / "checkpoints")
    with pytest.raises(
        ValueError,
        match="expected the checkpoints of a run of 2 rounds, found none; restore them or start",
    ):
        run(two_rounds)
    shutil.copytree(good, two_rounds / "checkpoints")  # nothing was lost
    assert same(run(two_rounds), whole)


@pytest.mark.slow
def test_tables_that_are_made_from_others_are_made_again(two_rounds, whole):
    shutil.rmtree(two_rounds / "events")
    remove(two_rounds, "metrics.csv", "model.keras")
    again = run(two_rounds)
    assert (
        same(again, whole)
        and scalars(two_rounds) == scalars(whole.path)
        and (two_rounds / "model.keras").exists()
    )
    assert len((two_rounds / "metrics.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    "name, message",
    [
        ("clients.sqlite", "the rows .*: expected .*, as in the checkpoint of round 2"),
        ("client_states.sqlite", "the states of 0 clients: expected"),
    ],
)
def test_a_missing_table_is_named(two_rounds, name, message):
    remove(two_rounds, name)
    with pytest.raises(ValueError, match=f"{name} holds {message}.*; restore the file"):
        run(two_rounds)


@pytest.mark.parametrize("name", ["clients.sqlite", "client_states.sqlite"])
def test_a_damaged_table_is_named(two_rounds, name):
    (two_rounds / name).write_bytes(b"not a table" * 1000)
    with pytest.raises(
        ValueError, match="is damaged .*: restore an undamaged copy or start a new run folder"
    ):
        run(two_rounds)


def without_a_seed():
    """A model that has other weights each time, some of which no round changes."""
    layers = [tf.keras.layers.Dense(2, input_shape=[3], trainable=False), tf.keras.layers.Dense(1)]
    model = tf.keras.Sequential(layers)
    model.compile(tf.keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


@pytest.fixture(scope="module")
def unseeded(tmp_path_factory):
    """Returns (model, weights after two rounds, train(folder), folder after one round)."""
    model, (clients, _, _) = without_a_seed(), regressions()

    def train(folder, model=None, rounds=2):
        options = dict(
            rounds=rounds,
            cohort=["c0", "c1"],
            seed=1,
            run_dir=folder,
            num_workers=1,
            progress=False,
        )
        run = fl.simulate(
            model or without_a_seed(), clients, fl.algorithms.fed_adam(0.1), **options
        )
        return [w.tobytes() for w in run.model.get_weights()]

    folder = tmp_path_factory.mktemp("runs") / "one"
    train(folder, model, rounds=1)
    return model, train(None, model), train, folder


@pytest.mark.slow
def test_a_model_without_a_seed_continues_from_the_weights_that_the_run_started_with(
    unseeded, tmp_path, caplog
):
    model, whole, train, one_round = unseeded
    folder = shutil.copytree(one_round, tmp_path / "run")
    with caplog.at_level(logging.WARNING, "fedlab"):
        assert train(folder) == whole
        assert caplog.text.count("the model's weights differ from those that the run in") == 1
        assert train(folder) == whole  # finished
        assert caplog.text.count("the model's weights differ") == 2
        assert train(folder, model) == whole
        assert caplog.text.count("the model's weights differ") == 2
    start = tmp_path / "start"  # what a run that was killed in its first evaluation leaves
    start.mkdir()
    for name in ("config.json", "initial.npz"):
        shutil.copy(one_round / name, start)
    assert train(start) == whole
    with np.load(
        folder / "checkpoints" / "round_000002.npz"
    ) as checkpoint:  # does not repeat what never changes
        assert not {"array_00002", "array_00003"} & set(checkpoint) and "array_00000" in checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage, problem",
    [
        (None, "is missing"),
        (b"no archive" * 9, "is damaged"),
        ("another", "belongs to another run"),
    ],
)
def test_missing_or_damaged_initial_weights_are_named(unseeded, tmp_path, damage, problem):
    model, whole, train, one_round = unseeded
    folder = shutil.copytree(one_round, tmp_path / "run")
    if damage == "another":
        train(tmp_path / "other", rounds=1)
        shutil.copy(tmp_path / "other" / "initial.npz", folder)
    elif damage is None:
        remove(folder, "initial.npz")
    else:
        (folder / "initial.npz").write_bytes(damage)
    with pytest.raises(
        ValueError,
        match=f"initial.npz .*{problem}.*: restore the file that belongs to the run or start a new",
    ):
        train(folder)
    assert (
        train(folder, model) == whole
        and (folder / "initial.npz").read_bytes() == (one_round / "initial.npz").read_bytes()
    )


# What stops a run.


@pytest.mark.slow
@pytest.mark.parametrize(
    "size_bytes",
    [
        pytest.param(300, marks=pytest.mark.slow),
        pytest.param(2_000, marks=pytest.mark.slow),
        pytest.param(20_000, marks=pytest.mark.slow),
        40_000,
    ],
)
def test_a_full_disk(two_rounds, whole, size_bytes):
    """The run stops at its first, second, ... large file; earlier files stay intact."""
    with (
        files_of_at_most(size_bytes),
        pytest.raises(
            OSError, match="cannot be written .*: make room .* the last checkpoint is intact"
        ) as info,
    ):
        run(two_rounds)
    assert "\n" not in str(info.value)
    assert Checkpoints(two_rounds / "checkpoints").last().about["round"] >= 2
    assert not list(two_rounds.rglob("*.tmp*"))
    assert same(run(two_rounds), whole)


@pytest.mark.parametrize(
    "sent, raised",
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_ends_within_one_clients_work(sent, raised):
    """One graph call trains a block of 64 clients; it skips the clients after the signal."""
    started = []

    def count(first):
        started.append(time.monotonic())
        if len(started) == 3:
            os.kill(os.getpid(), sent)
        time.sleep(0.02)
        return first

    def client_init(base):
        def init(task, weights):
            (first,) = tf.py_function(count, [weights[0]], [weights[0].dtype])
            return base.client_init(task, [tf.ensure_shape(first, weights[0].shape), *weights[1:]])

        return init

    algorithm = wrap(
        fl.algorithms.fed_avg(), lambda base: base._replace(client_init=client_init(base))
    )
    clients = points(np.zeros(1024), np.ones(1024, int))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(raised), ending_on_sigterm():
            fl.simulate(
                linear_model(1, tf.keras.optimizers.SGD(0.1)),
                clients,
                algorithm,
                rounds=1,
                clients_per_round=1024,
                num_workers=2,
                progress=False,
            )
    finally:
        signal.signal(signal.SIGINT, previous)
    assert 3 <= len(started) < 40
    time.sleep(0.1)
    assert time.monotonic() - started[-1] > 0.1  # nothing runs any more


COMMAND = [
    "-m",
    "experiments.shakespeare.run",
    "--source=synthetic",
    "--clients_per_round=3",
    "--max_batches=2",
    "--evaluation_examples=8",
]


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    fl.models.char_rnn(units=8, embedding_dim=4).save(path)
    return path


def start(model, folder, *arguments, **options):
    command = [
        sys.executable,
        *COMMAND,
        f"--model={model}",
        f"--run_dir={folder}",
        "--num_chars=0",
        *arguments,
    ]
    return subprocess.Popen(
        as_on_a_terminal(command), cwd=ROOT, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("tff", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name, code", [pytest.param("SIGINT", 130, marks=pytest.mark.slow), ("SIGTERM", 143)]
)
def test_signals_end_a_command_with_a_checkpoint(small_model, tmp_path, engine, name, code):
    if engine == "tff":
        pytest.importorskip("tensorflow_federated")
    mark = f"FEDLAB_TEST_SIGNAL_{os.getpid()}_{engine}_{name}"
    process = start(
        small_model,
        tmp_path / "run",
        "--rounds=100000",
        f"--engine={engine}",
        env={**os.environ, mark: "1"},
    )
    deadline = time.monotonic() + 120
    while (
        not list((tmp_path / "run" / "checkpoints").glob("*2.npz")) and time.monotonic() < deadline
    ):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    sent = time.monotonic()
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert time.monotonic() - sent < 20
    assert "Traceback" not in err
    assert Checkpoints(tmp_path / "run" / "checkpoints").last().about["round"] >= 2
    for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            assert mark.encode() not in file.read_bytes(), f"{file} is left"


@pytest.mark.slow
def test_a_full_disk_ends_a_command_with_a_line(small_model, tmp_path):
    process = start(
        small_model,
        tmp_path / "run",
        "--rounds=2",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err
    line = [line for line in err.splitlines() if line.startswith("fedlab: error:")]
    assert (
        len(line) == 1
        and "run cannot be written" in line[0]
        and "the last checkpoint is intact" in line[0]
    )
