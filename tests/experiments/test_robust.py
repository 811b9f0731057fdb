"""The robust experiment from the command line, small."""

import csv
import pathlib
import subprocess
import sys

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
