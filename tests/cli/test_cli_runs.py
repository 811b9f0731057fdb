"""`fedlab runs` and `fedlab report`: what they say of run folders, whole, damaged and foreign."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import cli
from tests.quadratics import linear_model, points


def simulate(folder, rate, rounds=2, asked=None, **options):
    clients = points([2, 4, 5], [3, 1, 2])
    model = linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0)
    sets = {"all": clients, "each": fl.per_client(clients)}
    algorithm = fl.algorithms.fed_avg(server_learning_rate=rate)
    options = {
        "clients_per_round": 2,
        "evaluate_on": sets,
        "run_dir": folder,
        "progress": False,
        **options,
    }
    return fl.simulate(model, clients, algorithm, rounds=rounds, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two runs that differ in one setting, the histories of which come with it."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, {
        "slow": simulate(folder / "slow", 0.5).history,
        "fast": simulate(folder / "more" / "fast", 1.0).history,
    }


@pytest.fixture
def runs(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "runs")
    return tmp_path / "runs"


def fedlab(capsys, *arguments):
    assert cli.main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_list(capsys, runs, made):
    out = fedlab(capsys, "runs", "list", runs)
    head, fast, slow = out.splitlines()
    assert (
        head.split()[:3] == ["run", "rounds", "time"] and "all loss" in head and "each loss" in head
    )
    assert fast.split()[:2] == ["more/fast", "2/2"] and fast.endswith(
        "algorithm_settings.server_learning_rate=1.0"
    )
    assert slow.split()[:2] == ["slow", "2/2"] and slow.endswith(
        "algorithm_settings.server_learning_rate=0.5"
    )
    found = json.loads(fedlab(capsys, "runs", "list", runs, "--json"))
    history = made[1]["fast"]
    assert found[0]["results"]["each_loss"] == {
        "last": history[-1]["each_loss"],
        "last_round": 2,
        "best": min(row["each_loss"] for row in history),
        "best_round": min(history, key=lambda row: row["each_loss"])["round"],
    }
    assert found[0]["seconds"] == sum(row.get("seconds", 0) for row in history)
    assert found[1]["differing_settings"] == {"algorithm_settings.server_learning_rate": 0.5}
    assert "each_loss_p10" not in found[0]["results"] and list(found[0]["results"]) == [
        "all_loss",
        "each_loss",
        "train_loss",
    ]


def test_a_list_of_runs_with_little_in_common_is_no_wider_for_it(capsys, runs, monkeypatch):
    """Where metrics would be too many columns, each run says its first ones."""
    monkeypatch.setattr("fedlab.cli.runs.list._MOST_METRICS", 2)
    head, fast, _ = fedlab(capsys, "runs", "list", runs).splitlines()
    assert "results (best)" in head and "loss" not in head
    assert "all loss " in fast and ", each loss " in fast and "train loss" not in fast


def test_list_marks_damaged_runs_and_leaves_out_what_is_no_run(capsys, runs):
    (runs / "bert").mkdir()
    (runs / "bert" / "config.json").write_text('{"hidden_size": 8}')
    shutil.copytree(runs / "slow", runs / "cut")
    (runs / "cut" / "clients.sqlite").write_bytes(
        (runs / "slow" / "clients.sqlite").read_bytes()[:5000]
    )
    shutil.copytree(runs / "slow", runs / "torn")
    (runs / "torn" / "config.json").write_text('{"format_version')
    shutil.copytree(runs / "slow", runs / "without")
    (runs / "without" / "clients.sqlite").unlink()
    shutil.copytree(runs / "slow", runs / "text")
    (runs / "text" / "clients.sqlite").write_text("no database " * 100)
    lines = fedlab(capsys, "runs", "list", runs).splitlines()
    marked = {line.split()[0]: line for line in lines if "  ! " in line}
    assert set(marked) == {"cut", "torn", "without", "text"} and len(lines) == 3 + 4
    assert "config.json is damaged" in marked["torn"]
    assert (
        "has no clients.sqlite" in marked["without"]
        and "is damaged" in marked["text"] + marked["cut"]
    )
    found = json.loads(fedlab(capsys, "runs", "list", runs, "--json"))
    assert sum("problem" in each for each in found) == 4


@pytest.mark.parametrize("width, titles", [(200, 7), (60, 4)])
def test_a_list_fits_the_terminal(capsys, runs, monkeypatch, width, titles):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert cli.main(["runs", "list", str(runs)]) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) < width
    head = re.split("  +", lines[0].strip())
    assert head[:2] == ["run", "rounds"] and head[-1] == "settings that differ"
    assert len(head) == titles
    assert ("left out, use --json" in " ".join(lines)) == (width == 60)
    folded = "".join(line[-30:].strip() for line in lines[1:]) if width == 60 else " ".join(lines)
    assert "algorithm_settings.server_learning_rate=1.0" in folded


def test_rounds_asked_are_those_of_the_last_start(capsys, runs):
    simulate(runs / "slow", 0.5, rounds=3)
    assert json.loads(fedlab(capsys, "runs", "show", runs / "slow", "--json"))["rounds_asked"] == 3
    assert "rounds   3/3, finished\n" in fedlab(capsys, "runs", "show", runs / "slow")


def test_a_run_that_is_not_finished(capsys, runs):
    config = json.loads((runs / "slow" / "config.json").read_text())
    (runs / "slow" / "config.json").write_text(json.dumps({**config, "rounds": 50}))
    assert "rounds   2/50, not finished\n" in fedlab(capsys, "runs", "show", runs / "slow")
    assert "2/50 not finished" in fedlab(capsys, "runs", "list", runs)


def test_show(capsys, runs, made):
    out = fedlab(capsys, "runs", "show", runs / "slow")
    assert (
        "aggregator                               mean\n" in out
        and "batching.batch_size" in out
        and "train loss" in out
    )
    found = json.loads(fedlab(capsys, "runs", "show", runs / "slow", "--json"))
    assert found["config"] == json.loads((runs / "slow" / "config.json").read_text())
    assert found["bytes_down"] == sum(row.get("bytes_down", 0) for row in made[1]["slow"]) > 0


def test_compare(capsys, runs, tmp_path):
    picture = tmp_path / "curves.png"
    out = fedlab(
        capsys,
        "runs",
        "compare",
        runs / "slow",
        runs / "more" / "fast",
        f"--plot={picture}",
        "--x=bytes",
    )
    assert (
        "algorithm_settings.server_learning_rate  0.5   1.0\n" in out
        and f"{picture}: all_loss by bytes\n" in out
    )
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5_000
    found = json.loads(
        fedlab(capsys, "runs", "compare", runs / "slow", runs / "more" / "fast", "--json")
    )
    assert (
        found["differing_settings"] == {"algorithm_settings.server_learning_rate": [0.5, 1.0]}
        and len(found["runs"]) == 2
    )
    assert "No setting differs." in fedlab(capsys, "runs", "compare", runs / "slow", runs / "slow")


@pytest.mark.parametrize("table, num_rows", [("rounds", 6), ("clients", 8), ("evaluations", 18)])
def test_export(capsys, runs, tmp_path, table, num_rows):
    arguments = ["runs", "export", runs / "slow", runs / "more" / "fast", f"--table={table}"]
    printed = [*csv.DictReader(io.StringIO(fedlab(capsys, *arguments)))]
    assert len(printed) == num_rows and {row["run"] for row in printed} == {"slow", "more/fast"}
    file = tmp_path / "rows.json"
    assert fedlab(capsys, *arguments, f"--output={file}") == f"{file}: {num_rows} rows\n"
    rows = json.loads(file.read_text())
    assert [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ] == [
        {name: value for name, value in row.items() if name in kept}
        for row, kept in zip(printed, rows)
    ]


def test_json_of_numbers_that_json_lacks(capsys, tmp_path):
    """A run whose loss leaves the numbers."""
    clients = points([2], [1])
    model = linear_model(1, tf.keras.optimizers.SGD(1e30), 1.0)
    fl.simulate(
        model,
        clients,
        rounds=3,
        clients_per_round=1,
        evaluate_on=clients,
        run_dir=tmp_path / "run",
        progress=False,
    )
    for command in (["show"], ["export", "--format=json"]):
        text = fedlab(
            capsys, "runs", *command, tmp_path / "run", *(["--json"] if command == ["show"] else [])
        )
        assert json.loads(text) and "NaN" not in text and "Infinity" not in text
    fedlab(capsys, "report", tmp_path / "run")
    fedlab(capsys, "runs", "list", tmp_path)


def test_report(capsys, runs, tmp_path):
    (runs / "slow" / "report.html").unlink()
    assert fedlab(capsys, "report", runs / "slow") == f"{runs / 'slow' / 'report.html'}\n"
    fedlab(capsys, "report", runs / "slow", f"--output={tmp_path / 'other.html'}")
    assert (tmp_path / "other.html").read_text() == (runs / "slow" / "report.html").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["runs", "list", "NOWHERE"], "there is no folder"),
        (["runs", "list", "EMPTY"], "there is no run in"),
        (["runs", "list", "FILE"], "is a file: expected a folder"),
        (["runs", "show", "NOWHERE"], "there is no run folder"),
        (["runs", "show", "EMPTY"], "holds no run"),
        (["runs", "show", "FILE"], "is a file: expected a run folder"),
        (["runs", "compare", "RUN"], "expected two or more"),
        (["runs", "compare", "RUN", "RUN", "--metric=all_loss"], "without --plot"),
        (
            ["runs", "compare", "RUN", "RUN", "--plot=EMPTY/a.png", "--metric=f1"],
            "--metric=f1, which slow does not have: expected one of all_loss",
        ),
        (
            ["runs", "compare", "RUN", "RUN", "--plot=EMPTY/a.pdf"],
            "expected a name that ends in .png",
        ),
        (
            ["runs", "compare", "RUN", "RUN", "--plot=NOWHERE/a.png"],
            "expected an existing folder",
        ),
        (
            ["runs", "compare", "RUN", "RUN", "--report=NOWHERE/a.html"],
            "in a folder that does not exist",
        ),
        (["runs", "export", "RUN", "--output=NOWHERE/a.csv"], "expected an existing folder"),
        (["runs", "export", "RUN", "EMPTY"], "holds no run"),
        (["report", "EMPTY"], "holds no run"),
        (["report", "RUN", "--output=NOWHERE/a.html"], "in a folder that does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(capsys, runs, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    places = {
        "RUN": runs / "slow",
        "EMPTY": tmp_path / "empty",
        "FILE": tmp_path / "file",
        "NOWHERE": tmp_path / "nowhere",
    }
    for name, path in places.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert not any((tmp_path / "empty").iterdir())


def test_damaged_samples_are_named(capsys, runs):
    (runs / "slow" / "samples.json").write_text('[{"title": 1}]')
    assert cli.main(["report", str(runs / "slow")]) == 2
    assert "samples.json holds [{'title': 1}]: expected a list of" in capsys.readouterr().err


def test_no_tensorflow_is_imported(runs, tmp_path):
    commands = [
        ["runs", "list", str(runs)],
        ["runs", "show", str(runs / "slow")],
        [
            "runs",
            "compare",
            str(runs / "slow"),
            str(runs / "more" / "fast"),
            f"--plot={tmp_path / 'c.png'}",
            f"--report={tmp_path / 'c.html'}",
        ],
        ["runs", "export", str(runs / "slow")],
        ["report", str(runs / "slow")],
    ]
    program = (
        "import json, sys\nfrom fedlab import cli\n"
        "codes = [cli.main(command) for command in json.loads(sys.argv[1])]\n"
        "sys.exit(f'{codes} {\"tensorflow\" in sys.modules}')"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "[0, 0, 0, 0, 0] False\n"
