"""Runs of one stack are read on the other one, but not continued."""

import csv
import io
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import fedlab as fl
from fedlab import cli
from fedlab.learner import stack
from tests.runs import same_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
THIS = stack.name()
OTHER = {"modern": "tff", "tff": "modern"}[THIS]
OTHER_PYTHON = ROOT / {"modern": ".venv", "tff": ".venv-tff"}[OTHER] / "bin" / "python"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / THIS
    same_run.run(folder, 1)
    return folder


@pytest.fixture(scope="module")
def relabelled(made, tmp_path_factory):
    """The run with a record as of the other stack: its name, and the settings of its Keras."""
    folder = shutil.copytree(made, tmp_path_factory.mktemp("other") / OTHER)
    config = json.loads((folder / "config.json").read_text())
    config["stack"], config["versions"]["tensorflow"] = OTHER, "9.8"
    config["layers"] = [{"class": "Another"}]
    config["optimizer"]["loss_scale_factor_of_another_keras"] = None
    config["loss"]["reduction"] = {"modern": "sum_over_batch_size", "tff": "auto"}[OTHER]
    operations = {"modern": [], "tff": ["TFOpLambda"]}[OTHER]
    config["model"] = [*(kind for kind in config["model"] if kind != "TFOpLambda"), *operations]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The same run, made by the other stack."""
    if not OTHER_PYTHON.exists():
        pytest.skip(f"no environment of the {OTHER} stack: run scripts/setup --stack={OTHER}")
    folder = tmp_path_factory.mktemp("foreign") / OTHER
    done = subprocess.run(
        [OTHER_PYTHON, "-m", "tests.runs.same_run", folder, "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(
    params=["relabelled", pytest.param("foreign", marks=pytest.mark.slow)], name="other"
)
def other_folder(request):
    return request.getfixturevalue(request.param)


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def fedlab(capsys, *arguments):
    assert cli.main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_run_of_the_other_stack_is_not_continued(other):
    before = contents(other)
    with pytest.raises(ValueError) as info:
        same_run.run(other, 2)
    message = str(info.value)
    assert message.startswith(f"{other} holds a run of another stack ({OTHER} stack, TensorFlow ")
    assert f"expected this one ({THIS} stack, TensorFlow " in message
    assert (
        f"resume it with the stack that started it (in fedlab's repository: --stack={OTHER})"
        in (message)
    )
    assert message.endswith(" or choose another run folder") and "\n" not in message
    after = contents(other)
    del before[other / "lock"], after[other / "lock"]
    assert after == before


@pytest.mark.slow
def test_a_run_of_the_other_stack_is_read(other, capsys, tmp_path):
    run = fl.runs.read_run(other)
    assert run.finished and run.config["stack"] == OTHER and len(run.history) == 2
    assert len(run.rows("clients")) == 2 and run.rows("evaluations")
    shown = fedlab(capsys, "runs", "show", other)
    assert ["stack", OTHER] in [line.split() for line in shown.splitlines()]
    found = json.loads(fedlab(capsys, "runs", "show", other, "--json"))
    assert found["config"]["stack"] == OTHER and found["finished"]
    rows = list(csv.DictReader(io.StringIO(fedlab(capsys, "runs", "export", other))))
    assert [float(row["norms_norm"]) for row in rows] == [
        pytest.approx(row["norms_norm"]) for row in run.history
    ]
    page = fl.write_report(other, tmp_path / "report.html").read_text()
    assert f">{OTHER}<" in page and run.config["versions"]["tensorflow"] in page
    assert fedlab(capsys, "report", other, f"--output={tmp_path / 'again.html'}")


def test_runs_of_both_stacks_are_compared(other, made, capsys, tmp_path):
    settings = {"stack": [THIS, OTHER]}
    found = json.loads(fedlab(capsys, "runs", "compare", made, other, "--json"))
    assert found["differing_settings"] == settings
    first, second = (run["results"]["each_loss"]["last"] for run in found["runs"])
    assert first == pytest.approx(second, abs=1e-4)
    table = fedlab(capsys, "runs", "compare", made, other).splitlines()
    assert ["stack", THIS, OTHER] in [line.split() for line in table]
    (tmp_path / "runs").mkdir()
    for name, folder in (("a", made), ("b", other)):
        shutil.copytree(folder, tmp_path / "runs" / name)
    listed = json.loads(fedlab(capsys, "runs", "list", tmp_path / "runs", "--json"))
    assert [run["differing_settings"] for run in listed] == [{"stack": THIS}, {"stack": OTHER}]
    lines = fedlab(capsys, "runs", "list", tmp_path / "runs").splitlines()
    assert [line.split()[-1] for line in lines[1:]] == [f"stack={THIS}", f"stack={OTHER}"]
