"""Bad input to the experiments' commands: as of the `fedlab` command, for every script."""

import multiprocessing
import os
import re
import runpy
import sys

import pytest

from tests.bad_input.telling import check_line, contents

SMALL = "--source=synthetic --rounds=1 --clients_per_round=2"
CASES = [
    ("shakespeare.run", "--rounds=0", "0"),
    ("shakespeare.run", "--rounds=many", "many"),
    ("shakespeare.run", "--ronds=3", "ronds"),
    ("shakespeare.run", "three", "three"),
    ("shakespeare.run", "--flagfile={f}/missing.flags", "missing.flags"),
    ("shakespeare.run", f"--model={{f}}/missing.keras {SMALL}", "missing.keras"),
    ("shakespeare.run", f"--model={{f}}/pickle {SMALL}", "pickle"),
    ("shakespeare.run", f"--model={{f}}/lambda.keras {SMALL}", "Lambda"),
    ("shakespeare.run", f"--model={{f}}/answers.keras {SMALL}", "bert_question_answering"),
    ("shakespeare.run", f"--model={{f}}/answers.keras {SMALL} --num_chars=0", "'x'"),
    ("shakespeare.run", f"--model={{f}}/nan.keras {SMALL}", "nan"),
    ("shakespeare.run", "--model={f}/chars.keras --source=folio", "'folio'"),
    ("shakespeare.run", "--model={f}/chars.keras --path={f}/no_plays", "no_plays"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --engine=spark", "'spark'"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --cohort=ROLE_0,RÔLE", "RÔLE"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --clients_per_round=500", "500"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --client_learning_rate=-1", "-1"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --client_learning_rate=nan", "nan"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --server_momentum=2", "2"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --algorithm=fed_best", "fed_best"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --prompt=Ä", "'Ä'"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --run_dir={{f}}/text.txt", "text.txt"),
    (
        "shakespeare.run",
        f"--model={{f}}/chars.keras {SMALL} --run_dir={{f}}/text.txt/run",
        "text.txt",
    ),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --run_dir={{f}}/plays", "plays"),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --run_dir=/sys/run", "/sys/run"),
    (
        "shakespeare.run",
        f"--model={{f}}/chars.keras {SMALL} --run_dir={{f}}/runs/version9",
        "version 9",
    ),
    ("shakespeare.run", f"--model={{f}}/chars.keras {SMALL} --precision=float16", "float16"),
    ("squad.run", "--max_length=8", "8"),
    ("squad.run", "--client_optimizer=Lion", "Lion"),
    ("squad.run", "--source=synthetic --pretrained=minilm", "30522"),
    ("squad.run", "--alpha=-1", "-1"),
    ("squad.run", "--rounds=1", "path="),
    ("squad.run", "--path={f}/missing", "missing"),
    ("squad.run", "--path={f}/squad_nested", "squad_nested"),
    ("squad.run", "--path={f}/squad_cut", "squad_cut"),
    ("squad.run", "--path={f}/squad_good --vocabulary={f}/text.txt", "text.txt"),
    ("squad.run", "--source=synthetic --hidden_size=10 --num_heads=3", "hidden_size=10"),
    ("squad.run", "--source=synthetic --pretrained={f}/folder", "folder"),
    (
        "squad.run",
        "--source=synthetic --partition=plays --hidden_size=12 --num_layers=1",
        "'plays'",
    ),
    ("squad.run", "--source=synthetic --freeze=tail --hidden_size=12 --num_layers=1", "'tail'"),
    ("squad.run", "--source=synthetic --precision=int8 --hidden_size=12 --num_layers=1", "'int8'"),
    ("squad.run", "--source=synthetic --centralized --local_epochs=2", "--local_epochs"),
    ("squad.compare", "--presets=best", "best"),
    ("squad.compare", "--source=synthetic --folder={f}/text.txt", "text.txt"),
    ("robust.run", "--attackers=0.5", "0.5"),
    ("robust.run", "--num_clients=20", "clients_per_round"),
    ("robust.run", "--tolerated=0.6", "0.6"),
    ("robust.run", "--out={f}/text.txt", "text.txt"),
    ("robust.run", "--out=/sys/robust", "/sys/robust"),
    ("robust.run", "--learning_rate=nan", "nan"),
    ("fedprox_synthetic.run", "--sets=2", "'2'"),
    ("fedprox_synthetic.run", "--sets=iid --stragglers=150", "'150'"),
    ("fedprox_synthetic.run", "--sets=", "--sets"),
    ("fedprox_synthetic.run", '--sets="0,nan"', "nan"),
    ("fedprox_synthetic.run", "--sets=iid --stragglers=0 --mu=nan", "nan"),
    ("fedprox_synthetic.run", "--sets=iid --clients_per_round=31", "31"),
    ("fedprox_synthetic.run", "--sets=iid --stragglers=0 --out={f}/text.txt", "text.txt"),
    ("bench.run", "--workloads=W9", "W9"),
    ("bench.run", "--engines=spark", "spark"),
    ("bench.run", "--engines=", "--engines"),
    ("bench.run", "--workloads=", "--workloads"),
    ("bench.run", "--json={f}/missing/bench.json", "missing"),
    ("bench.run", "--out={f}/text.txt", "text.txt"),
    ("bench.run", "--rounds=0", "0"),
    ("dickens.run", "--books={f}/missing", "missing"),
    ("dickens.run", "--epochs=3", "books"),
]

_LOG = re.compile(r"[IW]\d{4} ")  # absl's own lines


def _run(module, arguments, work):
    """In a process of its own: the script, with what it prints in files."""
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
    """Processes that begin with TensorFlow imported: importing it takes longer than all that a bad input lets happen."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "fedlab.models", "fedlab.runs.write.run_folder"])
    return context


@pytest.mark.parametrize(
    "script, arguments, received",
    CASES,
    ids=[f"{script} {arguments}" for script, arguments, _ in CASES],
)
def test_scripts(files, processes, tmp_path, monkeypatch, script, arguments, received):
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
