"""`fedlab new`: the experiment that it creates runs, and is formatted."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from fedlab import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "my_study"]) == 0
    assert "python my_study/run.py --flagfile=my_study/small.flags" in capsys.readouterr().out
    return tmp_path / "my_study"


def test_the_files(study):
    assert sorted(os.listdir(study)) == ["README.md", "run.py", "small.flags", "test_run.py"]
    for file in study.iterdir():
        assert "{study}" not in file.read_text()
    imported = set()
    for node in ast.walk(ast.parse((study / "run.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    # What the wheel requires: experiments/ is not part of it.
    assert imported == {"absl", "fedlab", "keras", "numpy"}
    ruff = shutil.which("ruff", path=os.path.dirname(sys.executable))
    if ruff is not None:
        options = ["--isolated", "--line-length=100"]
        for command in (["check", "--select=E,F,I,W"], ["format", "--check"]):
            done = subprocess.run(
                [ruff, *command, *options, str(study)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_it_runs_and_its_test_passes(study, tmp_path):
    """Outside of the repository, as with an installed package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "my_study"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_folder_that_exists_is_not_changed(study, capsys):
    (study / "run.py").write_text("mine")
    assert cli.main(["new", "my_study"]) == 2
    assert "'my_study' exists: expected a new folder" in capsys.readouterr().err
    assert (study / "run.py").read_text() == "mine"
