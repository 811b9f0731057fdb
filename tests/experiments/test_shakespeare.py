"""The Shakespeare experiment from the command line: tables and files."""

import csv
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    "--source=synthetic",
    "--rounds=2",
    "--clients_per_round=3",
    "--max_batches=1",
    "--evaluation_examples=8",
    "--num_chars=5",
]


def run(*arguments, **options):
    command = [sys.executable, "-m", "experiments.shakespeare.run", *map(str, arguments)]
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=600, **options
    )


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    import fedlab as fl

    path = tmp_path_factory.mktemp("model") / "small.keras"
    fl.models.char_rnn(units=8, embedding_dim=4).save(path)
    return path


@pytest.fixture(scope="module")
def finished(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return run(f"--model={small_model}", f"--run_dir={folder}", *SMALL), folder


@pytest.mark.slow
def test_run_prints_the_curve_and_writes_the_folder(finished):
    result, folder = finished
    assert result.returncode == 0, result.stderr
    assert (
        "Accuracy on new text of clients that never train" in result.stdout
        and "--- After ---" in result.stdout
    )
    with open(folder / "metrics.csv") as file:
        assert [row["round"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert (folder / "model.keras").is_file() and (folder / "config.json").is_file()
    samples = json.loads((folder / "samples.json").read_text())
    assert [each["title"] for each in samples] == [
        "Before",
        "After",
    ] and f"--- After ---\n{samples[1]['text']}\n" in result.stdout
    assert "Samples" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_run_that_diverges_fails_in_one_line(small_model):
    result = run(
        f"--model={small_model}",
        *SMALL,
        "--client_learning_rate=3e38",
        "--max_batches=5",
        "--max_dropped_rounds=1",
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "has no usable update (not finite: 3, first" in result.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_federated") is not None, reason="TFF is installed"
)
def test_without_tff_its_engine_is_refused_before_the_work(tmp_path):
    """Also before the model is loaded, which does not exist."""
    result = run("--engine=tff", "--model=no_such_model", f"--run_dir={tmp_path / 'run'}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("fedlab: error: engine='tff': ")
    assert "scripts/setup --stack=tff" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_same_command_same_bits(finished, small_model, tmp_path):
    import numpy as np
    import tensorflow as tf

    assert run(f"--model={small_model}", f"--run_dir={tmp_path / 'run'}", *SMALL).returncode == 0
    first, second = (
        tf.keras.models.load_model(folder / "model.keras")
        for folder in (finished[1], tmp_path / "run")
    )
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights()))


@pytest.mark.slow
def test_precision_reaches_the_clients(finished, small_model, tmp_path):
    result = run(
        f"--model={small_model}", f"--run_dir={tmp_path / 'run'}", "--precision=bfloat16", *SMALL
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"] == "bfloat16"
    exact, rounded = (
        list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
        for folder in (finished[1], tmp_path / "run")
    )
    assert rounded[0]["new_clients_loss"] == exact[0]["new_clients_loss"]  # evaluation is float32
    assert rounded[2]["train_loss"] != exact[2]["train_loss"]
    assert float(rounded[2]["train_loss"]) == pytest.approx(float(exact[2]["train_loss"]), rel=0.01)
