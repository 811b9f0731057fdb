"""Bad input to the experiments' scripts: exit code 2, one line, and no files written."""

import multiprocessing
import os
import re
import runpy
import sys

import pytest

from tests.bad_input.telling import check_line, contents

SMALL = "--source=synthetic --rounds=1 --clients_per_round=2"
# The functions behind these flags have their own cases in test_functions.py. Here, each
# script has cases for what it parses and checks itself, and one for an error of a
# function that passes through it.
CASES = [
    ("shakespeare.run", "--rounds=many", "many"),
    ("shakespeare.run", "--ronds=3", "ronds"),
    ("shakespeare.run", "three", "three"),
    ("shakespeare.run", "--flagfile={f}/missing.flags", "missing.flags"),
    ("shakespeare.run", f"--model={{f}}/missing.keras {SMALL}", "missing.keras"),
    ("shakespeare.run", f"--model={{f}}/answers.keras {SMALL}", "bert_question_answering"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --cohort=ROLE_0,RÔLE", "RÔLE"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --algorithm=fed_best", "fed_best"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --prompt=Ä", "'Ä'"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --run_dir={{f}}/plays", "plays"),
    ("squad.run", "--client_optimizer=Lion", "Lion"),
    ("squad.run", "--source=synthetic --pretrained=minilm", "30522"),
    ("squad.run", "--alpha=-1", "-1"),
    ("squad.run", "--rounds=1", "path="),
    ("squad.run", "--source=synthetic --pretrained={f}/folder", "folder"),
    (
        "squad.run",
        "--source=synthetic --partition=plays --hidden_size=12 --num_layers=1",
        "'plays'",
    ),
    ("squad.run", "--source=synthetic --centralized --local_epochs=2", "--local_epochs"),
    ("squad.compare", "--presets=best", "best"),
    ("squad.compare", "--source=synthetic --folder={f}/text.txt", "text.txt"),
    ("robust.run", "--attackers=0.5", "0.5"),
    ("robust.run", "--num_clients=20", "clients_per_round"),
    ("robust.run", "--out={f}/text.txt", "text.txt"),
    ("bench.run", "--workloads=W9", "W9"),
    ("bench.run", "--workloads= --algorithms --methods_on=W9", "W9"),
    ("bench.run", "--workloads=", "--workloads"),
    ("bench.run", "--engines=spark", "spark"),
    ("bench.run", "--engines=local,flower", "--flower=PYTHON"),
    ("bench.run", "--engines=flower --flower={f}/missing", "--flower="),
    ("bench.run", "--json={f}/missing/bench.json", "missing"),
    ("bench.run", "--out={f}/text.txt", "text.txt"),
    ("dickens.run", "--books={f}/missing", "missing"),
    ("dickens.run", "--epochs=3", "books"),
]

_LOG = re.compile(r"[IW]\d{4} ")  # lines that absl logs


def _run(module, arguments, work):
    """Runs a script in this (forked) process with its output in files."""
    os.chdir(work)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(
            os.open(os.path.join(work, "..", name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            descriptor,
        )
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


@pytest.fixture(scope="module")
def processes():
    """A context whose processes start with TensorFlow imported, which takes a script long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "fedlab.models", "fedlab.runs.write.run_folder"])
    return context


@pytest.mark.parametrize(
    "script, arguments, received",
    CASES,
    ids=[f"{script} {arguments}" for script, arguments, _ in CASES],
)
def test_bad_input_is_one_line_with_exit_code_2(
    files, processes, tmp_path, monkeypatch, script, arguments, received
):
    monkeypatch.delenv("FEDLAB_DEBUG", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    before = contents(files, work)
    arguments = [argument.replace("{f}", str(files)) for argument in arguments.split(" ")]
    process = processes.Process(target=_run, args=(f"experiments.{script}", arguments, str(work)))
    process.start()
    process.join()
    err = (tmp_path / "err").read_text()
    assert process.exitcode == 2, err
    assert (tmp_path / "out").read_text() == ""
    lines = [line for line in err.splitlines() if not _LOG.match(line)]
    assert len(lines) == 1 and lines[0].startswith("fedlab: error: "), err
    check_line(lines[0].removeprefix("fedlab: error: "), received)
    assert contents(files, work) == before
