"""The SQuAD experiment from the command line: tables, files, and resuming after Ctrl-C."""

import csv
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.terminal import as_on_a_terminal

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    *(
        "--source=synthetic",
        "--max_length=48",
        "--hidden_size=16",
        "--num_heads=2",
        "--num_layers=1",
        "--intermediate_size=32",
    ),
    *(
        "--rounds=60",
        "--clients_per_round=2",
        "--max_batches=2",
        "--client_learning_rate=0.01",
        "--evaluate_every=20",
    ),
    *("--evaluation_questions=20", "--comparison_questions=40"),
]


def command(*arguments, module="run"):
    return [sys.executable, "-m", f"experiments.squad.{module}", *map(str, arguments)]


def run(*arguments, module="run"):
    return subprocess.run(
        command(*arguments, module=module), cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def weights(folder):
    import tensorflow as tf

    return tf.keras.models.load_model(folder / "model.keras").get_weights()


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def rows_of(file):
    with open(file, encoding="utf-8") as lines:
        return [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(lines)
        ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = run(*SMALL, f"--run_dir={folder}")
    assert result.returncode == 0, result.stderr
    return result, folder


@pytest.mark.slow
def test_run_prints_the_curve_and_writes_the_tables(finished):
    result, folder = finished
    assert "40 questions of 2 held-out articles, before and after 60 rounds:" in result.stdout
    rows = rows_of(folder / "metrics.csv")
    evaluated = [
        row["round"]
        for row in rows
        if row["held_out_f1"] and row["held_out_exact_match"] and row["held_out_loss"]
    ]
    assert [row["round"] for row in rows] == [str(i) for i in range(61)] and evaluated == [
        "0",
        "20",
        "40",
        "60",
    ]
    articles = rows_of(folder / "articles.csv")
    assert [row["article"] for row in articles] == ["ARTICLE_10", "ARTICLE_11"]
    assert sum(int(row["questions"]) for row in articles) == 40
    mean = sum(int(row["questions"]) * float(row["f1"]) for row in articles) / 40
    last = result.stdout[result.stdout.index("exact match") :].splitlines()[0]
    assert float(last.rstrip(".").split(" ")[-1]) == pytest.approx(mean, abs=0.006)


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_the_same_command_resumes(finished, tmp_path):
    folder = tmp_path / "run"
    started = as_on_a_terminal(command(*SMALL, f"--run_dir={folder}"))
    process = subprocess.Popen(
        started,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while (
            not (folder / "metrics.csv").exists()  # written after the checkpoint
            and time.monotonic() < deadline
            and process.poll() is None
        ):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in error, error
    assert (
        f" of 60 is saved in {folder}; resume with: {sys.executable} -m experiments.squad" in error
    )
    assert list(folder.glob("checkpoints/round_*.npz")) and not (folder / "model.keras").exists()
    again = run(*SMALL, f"--run_dir={folder}")
    assert again.returncode == 0, again.stderr
    assert same(folder, finished[1])
    for table in ("metrics.csv", "articles.csv"):
        assert rows_of(folder / table) == rows_of(finished[1] / table)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        [
            "--centralized",
            "--precision=bfloat16",
            "--client_schedule=constant",
            "--client_clip_norm=1",
        ],
        [
            "--partition=dirichlet",
            "--num_clients=4",
            "--alpha=0.5",
            "--freeze=*",
            "--keep=head",
            "--all_windows",
            "--max_length=24",
        ],
    ],
    ids=["centralized, bfloat16", "head only, by topic"],
)
def test_other_settings(arguments):
    result = run(*SMALL, *arguments, "--rounds=2")
    assert result.returncode == 0 and "exact match" in result.stdout, result.stderr


@pytest.mark.slow
def test_models_of_rounds_are_kept(tmp_path):
    folder = tmp_path / "run"
    result = run(*SMALL, "--rounds=3", "--evaluate_every=2", "--keep_models", f"--run_dir={folder}")
    assert result.returncode == 0, result.stderr
    kept = sorted(file.name for file in (folder / "models").iterdir())
    assert kept == ["round_0.keras", "round_2.keras", "round_3.keras"]
    for name, number in (("first", 2), ("last", 3)):
        (folder / name).mkdir()
        (folder / "models" / f"round_{number}.keras").rename(folder / name / "model.keras")
    assert same(folder / "last", folder) and not same(folder / "first", folder)
    nowhere = run(*SMALL, "--keep_models")
    assert (
        nowhere.returncode == 2
        and "give --run_dir=FOLDER" in nowhere.stderr
        and "Traceback" not in nowhere.stderr
    )


@pytest.mark.slow
def test_the_comparison_draws_its_picture(tmp_path):
    small = ",".join([*(flag for flag in SMALL if not flag.startswith("--source")), "--rounds=2"])
    arguments = [
        "--source=synthetic",
        f"--folder={tmp_path / 'runs'}",
        f"--picture={tmp_path / 'curves.png'}",
        "--presets=scratch",
    ]
    result = run(*arguments, f"--flags={small}", module="compare")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    last = rows_of(tmp_path / "runs" / "scratch" / "metrics.csv")[-1]
    assert f"{float(last['held_out_f1']):.2f}" in result.stdout
    failed = run(*arguments, f"--flags={small}", "--path=/nowhere", module="compare")
    assert (
        failed.returncode == 2
        and "which reads no file" in failed.stderr
        and "Traceback" not in failed.stderr
    )
