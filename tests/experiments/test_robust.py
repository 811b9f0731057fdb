"""The robust experiment as a person runs it, small."""

import csv
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "experiments.robust.run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_small_run_writes_curves_and_picture(tmp_path):
    result = run(
        f"--out={tmp_path}",
        "--rounds=6",
        "--num_clients=20",
        "--clients_per_round=15",
        "--scale=10",
    )
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "robust.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 6 * 7
    assert (tmp_path / "robust.png").read_bytes().startswith(b"\x89PNG")
    last = {
        row["aggregator"]: float(row["test_accuracy"])
        for row in rows
        if row["round"] == "6" and "alike" in row["clients"]
    }
    assert last["mean"] < 0.2 < 0.4 < min(last["no attack"], last["multi-Krum"])


def test_help_answers_at_once():
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        result = run("--help")
        seconds.append(time.perf_counter() - started)
        assert "--attackers" in result.stdout
    assert min(seconds) < 0.5


def test_mistakes_get_a_line():
    result = run("--attackers=0.9")
    assert (
        result.returncode in (1, 2)
        and "attackers" in result.stderr + result.stdout
        and "Traceback" not in result.stderr
    )
