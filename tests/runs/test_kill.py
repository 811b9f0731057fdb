"""After SIGKILL at any moment, the same command ends with the same bits in every file."""

import contextlib
import csv
import itertools
import json
import math
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from fedlab.runs.write.checkpoints import decode
from tests.runs.killable import ROUNDS, SECONDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = "tests.runs.killable"
MARK = f"FEDLAB_TEST_KILL={os.getpid()}"


class Runs:
    """Starts runs: by forking a process that has imported TensorFlow, if the engine allows it."""

    def __init__(self, engine):
        self.engine = engine
        self._server = (
            self._start("serve", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if engine == "local"
            else None
        )

    def _start(self, *arguments, **options):
        name, value = MARK.split("=")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            name: value,
        }
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, *arguments], cwd=ROOT, env=environment, **options
        )

    def __call__(self, folder, moment="", kill=None):
        """Runs until the end, the moment or `kill(pid)`; returns whether the run was killed."""
        arguments = [self.engine, str(folder), moment]
        if self._server is None:
            process = self._start(*arguments)
            if kill is not None:
                kill(process.pid)
            code = process.wait()
        else:
            self._server.stdin.write(json.dumps(arguments) + "\n")
            self._server.stdin.flush()
            pid = int(self._server.stdout.readline())
            if kill is not None:
                kill(pid)
            code = int(self._server.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        left = [pid for pid in marked() if self._server is None or pid != self._server.pid]
        assert not left or gone(left)
        return code != 0

    def close(self):
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()


def marked():
    """The process ids of what the runs started, living."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if MARK.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def gone(pids):
    """Whether processes end within 5 s: children end shortly after their killed parent."""
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def outcome(folder):
    """Everything that a run leaves, but for its times."""
    with open(folder / "metrics.csv") as file:
        metrics = [
            {name: value for name, value in row.items() if name not in SECONDS}
            for row in csv.DictReader(file)
        ]
    tables = {}
    for name in ("clients.sqlite", "client_states.sqlite"):
        if not (folder / name).exists():
            continue
        with contextlib.closing(sqlite3.connect(folder / name)) as connection:
            names = [
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                )
            ]
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables |= {
                table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in names
            }
    tables["rounds"] = [
        (number, without_seconds(json.loads(row))) for number, _, row, _ in tables["rounds"]
    ]
    tables["states"] = sorted(tables.get("states", []))
    assert (
        [row["round"] for row in metrics]
        == [str(number) for number, _ in tables["rounds"]]
        == [str(i) for i in range(ROUNDS + 1)]
    )
    checkpoints = {
        file.name: file.read_bytes() for file in sorted((folder / "checkpoints").iterdir())
    }
    assert list(checkpoints) == [f"round_{number:06}.npz" for number in (ROUNDS - 1, ROUNDS)]
    weights = [
        w.tobytes() for w in tf.keras.models.load_model(folder / "model.keras").get_weights()
    ]
    return {
        "files": sorted(file.name for file in folder.iterdir()),
        "metrics": metrics,
        "tables": tables,
        "checkpoints": checkpoints,
        "weights": weights,
        "events": scalars(folder),
    }


def without_seconds(row):
    return {name: value for name, value in row.items() if name not in SECONDS}


def scalars(folder):
    """(step, name, value) of the event file, in its order."""
    (file,) = (folder / "events").iterdir()
    events = tf.compat.v1.train.summary_iterator(str(file))
    values = [
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ]
    return [(step, tag, value) for step, tag, value in values if tag not in SECONDS]


def uninterrupted(runs, folder):
    """What a run leaves that nobody interrupts, and the names of its calls."""
    assert not runs(folder)
    return outcome(folder), calls_of(folder)


def at_a_random_time(folder, rng):
    """Returns a function that kills a process at a random time.

    In 80 % of cases that is during the round after a checkpoint, else at any time before.
    """
    delay, waits = rng.random(), rng.random() < 0.8

    def last():
        with contextlib.suppress(OSError):
            return max(
                (file.stat().st_mtime_ns for file in (folder / "checkpoints").glob("round_*.npz")),
                default=0,
            )

    def kill(pid):
        before, deadline = last(), time.monotonic() + 60
        while waits and last() == before and alive(pid) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay * (0.15 if waits else 4))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    return kill


def alive(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill_and_compare(runs, tmp_path, num_kills, seed=0):
    """Kills runs at calls in turn and at random times, and compares what they leave.

    Each run is killed several times in a row.

    Returns:
      How often a run was killed at each kind of call; "" is a random time.
    """
    rng = random.Random(seed)
    wanted, calls = uninterrupted(runs, tmp_path / "whole")
    firsts = itertools.chain.from_iterable(zip(*map(spread, by_kind(calls))))
    seconds = [f"{number}{side}" for number in range(len(calls) // 2) for side in "-+"]
    killed = []
    for number in itertools.count():
        if len(killed) >= num_kills:
            break
        folder = tmp_path / f"run_{number}"
        for plan in (next(firsts), None, rng.choice(seconds), None):  # several in a row
            if plan is None:
                again = runs(folder, kill=at_a_random_time(folder, rng))
            else:
                again = runs(folder, plan)
            if not again:
                break
            killed.append("" if plan is None else calls_of(folder)[int(plan[:-1])])
        if again:
            assert not runs(folder)
        found = outcome(folder)
        for part in wanted:
            assert found[part] == wanted[part], (folder, part, killed)
    return {name: killed.count(name) for name in sorted(set(killed))}


def calls_of(folder):
    """The names of a run's calls, in their order."""
    return pathlib.Path(f"{folder}.calls").read_text().splitlines()


def by_kind(calls):
    """Returns, for each name of a call, the moments before and after its calls; `MOMENTS` first."""
    moments = {}
    for number, name in enumerate(calls):
        moments.setdefault(name, []).extend(f"{number}{side}" for side in "-+")
    return [moments[name] for name in sorted(moments, key=lambda name: name not in MOMENTS)]


def spread(moments):
    """Yields the moments forever, each far from the ones before it, early and late."""
    step = round(len(moments) * 0.382) or 1
    while math.gcd(step, len(moments)) > 1:
        step += 1
    for i in itertools.count(start=len(moments) // 2):
        yield moments[i * step % len(moments)]


# The test is only valid if there was a kill at each of them.
MOMENTS = {
    "write checkpoint",  # half of its bytes are there
    "fsync checkpoint",
    "replace checkpoint",
    "commit clients",
    "commit client_states",
    "evaluate",
    "inside evaluate",
    "",  # any time
}


@pytest.mark.slow
def test_local(tmp_path, num_kills):
    with contextlib.closing(Runs("local")) as runs:
        counts = kill_and_compare(runs, tmp_path, num_kills)
    print(f"killed: {counts}")
    assert set(counts) >= MOMENTS and sum(counts.values()) >= num_kills
    assert not marked()


@pytest.mark.slow
def test_tff(tmp_path, num_kills):
    pytest.importorskip("tensorflow_federated")
    with contextlib.closing(Runs("tff")) as runs:
        counts = kill_and_compare(runs, tmp_path, max(4, num_kills // 10))
    print(f"killed: {counts}")
    assert not marked()


@pytest.mark.slow
def test_a_kill_of_each_kind(tmp_path):
    """The quick test: inside an evaluation, before a commit, and around a checkpoint."""
    with contextlib.closing(Runs("local")) as runs:
        wanted, calls = uninterrupted(runs, tmp_path / "whole")
        assert set(calls) | {""} >= MOMENTS
        for name in ("inside evaluate", "commit clients", "write checkpoint", "replace checkpoint"):
            number = [i for i, call in enumerate(calls) if call == name][2]
            assert runs(tmp_path / name, f"{number}-")
            if name == "write checkpoint":
                (half,) = (tmp_path / name / "checkpoints").glob("*.tmp")
                assert (
                    0 < half.stat().st_size < len(wanted["checkpoints"][f"round_{ROUNDS:06}.npz"])
                )
            assert not runs(tmp_path / name)
            assert outcome(tmp_path / name) == wanted
        state = decode(wanted["checkpoints"][f"round_{ROUNDS:06}.npz"])
        assert (
            sum(array is None for array in state.arrays) == 2
        )  # the frozen layer's, which no checkpoint needs to repeat
