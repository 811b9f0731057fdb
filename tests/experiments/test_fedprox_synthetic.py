"""The FedProx experiment from the command line, small."""

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.fedprox_synthetic import run
from fedlab.clients import sampling

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command(*arguments):
    line = [sys.executable, "-m", "experiments.fedprox_synthetic.run", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_small_run_writes_the_table_and_pictures(tmp_path):
    flags = [
        '--sets="1,1"',
        "--stragglers=90",
        "--rounds=4",
        "--local_epochs=3",
        f"--out={tmp_path}",
    ]
    result = command(*flags)
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "table.csv") as file:
        (row,) = csv.DictReader(file)
    assert (row["set"], row["stragglers"]) == ("1,1", "90")
    losses = {method: float(row[f"{method} loss"]) for method in run.METHODS}
    fed_avg, keeps, holds_back = losses.values()
    assert keeps != holds_back and max(keeps, holds_back) < min(
        fed_avg, np.log(10)
    )  # nine clients of ten are lost to FedAvg
    for picture in ("loss.png", "accuracy.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    # What is done is not done again, and gives the same table.
    table = (tmp_path / "table.csv").read_bytes()
    assert command(*flags).returncode == 0
    assert (tmp_path / "table.csv").read_bytes() == table


@pytest.mark.slow
def test_without_stragglers_fed_prox_with_mu_0_is_fed_avg(tmp_path):
    result = command(
        "--sets=iid", "--stragglers=0", "--rounds=2", "--local_epochs=2", f"--out={tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "table.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["FedAvg loss"] == row["FedProx, mu=0 loss"] != row["FedProx, mu>0 loss"]


@pytest.mark.parametrize("share, num_slow", [(0.0, 0), (0.5, 5), (0.9, 9)])
def test_the_same_clients_are_slow_under_every_method(share, num_slow):
    ids = [f"device_{k:02}" for k in range(30)]
    options = dict(client_ids=ids, share=share, clients_per_round=10, local_epochs=20)
    for round_num in (1, 2):
        cohort = sampling.uniform(10)(ids, round_num, 7)
        kept, dropped = (
            [run.condition(drop, **options)(c, round_num, 7) for c in cohort]
            for drop in (False, True)
        )
        assert sum(work.drop_reason == "deadline" for work in dropped) == num_slow
        for keeps, drops in zip(kept, dropped):
            assert not keeps.drop_reason
            assert (keeps.share < 1) == (drops.drop_reason == "deadline")
            assert keeps.share in [epochs / 20 for epochs in range(1, 21)]
