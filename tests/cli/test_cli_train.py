"""`fedlab train`, and what `evaluate` and `generate` do with the models that it makes."""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys

import numpy as np
import pytest

import fedlab as fl
from fedlab import cli
from fedlab.cli import _expressions, train
from tests.bad_input.telling import check_line

pytest.importorskip("pyarrow")
tf = pytest.importorskip("tensorflow")
keras = tf.keras


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """visits.csv, letters.csv, images and models."""
    f = tmp_path_factory.mktemp("data")
    draw = random.Random(0)
    rows = ["user,minutes,device,bought,spent"]
    for user in range(12):
        for _ in range(draw.randint(5, 12)):
            minutes, device = draw.uniform(0, 9), draw.choice(["phone", "laptop"])
            bought = "yes" if minutes + 4 * (device == "laptop") > 6 else "no"
            rows.append(f"{user},{minutes:.2f},{device},{bought},{1000 + 300 * minutes:.0f}")
    (f / "visits.csv").write_text("\n".join(rows) + "\n")
    letters = ["author,letter"]
    letters += [f'{author},"Grüße aus {city}, {author}"' for author in "AB" for city in "XYZ"]
    (f / "letters.csv").write_text("\n".join(letters) + "\n", encoding="utf-8")
    one = keras.Sequential([keras.layers.InputLayer([1]), keras.layers.Dense(1)])
    one.save(f / "uncompiled.keras")
    one.compile("sgd", "mse")
    one.save(f / "compiled.keras")
    return f


@pytest.fixture
def fedlab(folder, tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder, with {f} for the folder of files; returns its output."""
    monkeypatch.chdir(tmp_path)

    def run(text):
        assert cli.main(text.format(f=folder).split(" ")) == 0
        return capsys.readouterr().out

    return run


VISITS = "--data {f}/visits.csv --client user --x minutes,device --label bought"


@pytest.mark.slow
def test_a_csv_file_needs_no_python(fedlab, folder, capsys):
    command = f"train {VISITS} --clients_per_round 4 --client_learning_rate 0.5 --local_epochs 5"
    out = fedlab(f"{command} --rounds 8")
    rows = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert rows["classes"].strip() == "no, yes" and rows["new clients"].startswith("2 clients, ")
    assert rows["report"].strip() == "runs/visits/report.html"
    history = fl.runs.read_run("runs/visits").history
    assert history[-1]["new_clients_accuracy"] > 0.8
    assert f"{history[-1]['new_clients_accuracy']:.4f}" in out

    # The saved model reads the columns of the table, and knows the classes.
    result = json.loads(fedlab(f"evaluate --model runs/visits/model.keras {VISITS} --json"))
    assert (result["clients"], result["metrics"]["accuracy"] > 0.8) == (12, True)

    # The same command finds the finished run, and more rounds continue it.
    assert fedlab(f"{command} --rounds 8").splitlines()[-1] == out.splitlines()[-1]
    assert len(fl.runs.read_run("runs/visits").history) == 9
    fedlab(f"{command} --rounds 9")
    assert len(fl.runs.read_run("runs/visits").history) == 10
    changed = command.replace("--local_epochs 5", "--local_epochs 4").format(f=folder)
    assert cli.main(changed.split(" ")) == 2
    assert "epochs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_number_is_predicted(fedlab):
    data = "--data {f}/visits.csv --client user --x minutes --label spent"
    out = fedlab(f"train {data} --rounds 10 --local_epochs 5 --test_by example --run_dir runs/a")
    assert "predicts           a number" in out
    last = fl.runs.read_run("runs/a").history[-1]
    assert last["held_out_examples_mae"] < 200  # the labels are between 1,000 and 3,700


@pytest.mark.slow
def test_a_model_file_and_an_algorithm(fedlab):
    data = "--data {f}/visits.csv --client user --x minutes --label spent --test_fraction 0"
    fedlab(
        f"train {data} --model {{f}}/uncompiled.keras --loss mae --metrics mse --optimizer sgd "
        "--algorithm fed_prox(mu=0.1,server_learning_rate=0.5) --aggregator clipped(norm=1.0) "
        "--rounds 1 --max_batches 1 --clients_per_round 2 --run_dir runs/b"
    )
    config = fl.runs.read_run("runs/b").config
    assert (config["algorithm"], config["aggregator"]) == ("fed_prox", "clipped")
    assert config["algorithm_settings"]["mu"] == 0.1
    assert "train_mse" in fl.runs.read_run("runs/b").history[-1]


@pytest.mark.slow
def test_own_text_with_its_own_characters(fedlab, tmp_path):
    data = "--data {f}/letters.csv --client author --text letter"
    fedlab(f"train {data} --rounds 1 --test_fraction 0 --run_dir run")
    known = json.loads((tmp_path / "run" / "preprocessing.json").read_text())
    assert known["characters"] == "\ufffd" + "".join(sorted(set("Grüße aus , ABXYZ\n")))
    out = fedlab("generate --model run/model.keras --prompt Grüße --num_chars 9")
    assert out.startswith("Grüße") and len(out) == 15
    # From the data, if there is nothing next to the model.
    (tmp_path / "run" / "model.keras").rename(tmp_path / "moved.keras")
    (tmp_path / "run" / "preprocessing.json").unlink()
    assert fedlab(f"generate --model moved.keras --prompt Grüße --num_chars 9 {data}") == out


@pytest.mark.slow
def test_folders_of_images(fedlab, folder, tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 255, [4, 4, 3]).astype(np.uint8)
            image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    model = keras.Sequential(
        [
            keras.layers.InputLayer([4, 4, 3]),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(tmp_path / "pets.keras")
    data = "--data pets --partitioner uniform(num_clients=3)"
    out = fedlab(f"train {data} --model pets.keras --rounds 1 --test_fraction 0")
    assert "classes    cats, dogs" in out and "train      3 clients, 12 examples" in out
    out = fedlab(f"datasets show {data.removeprefix('--data ')} --image_size 2,2")
    assert "12" in out


@pytest.mark.slow
def test_an_interrupted_run_resumes_with_the_same_command(folder, tmp_path):
    root = pathlib.Path(fl.__file__).parents[1]
    data = f"--data {folder}/visits.csv --client user --label bought --x minutes".split()
    # A background job starts with Ctrl-C ignored.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fedlab import cli; sys.exit(cli.main())"
    )
    command = [sys.executable, "-c", program, "train", *data, "--run_dir", "run", "--rounds"]
    options = dict(cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, text=True)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen([*command, "5000"], **options, **pipes) as process:
        for line in process.stderr:
            if line.startswith("round 2 of 5000: "):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "resume" in err and "--run_dir run" in err
    done = len(fl.runs.read_run(tmp_path / "run").history)
    resumed = subprocess.run([*command, str(done + 1)], **options, capture_output=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert f"after {done + 1} rounds" in resumed.stdout
    assert len(fl.runs.read_run(tmp_path / "run").history) == done + 2


def test_expressions():
    names = {"dict": dict, "list": lambda *items: [*items]}
    made = _expressions.parse("o", "list(dict(a=-1.5), list, ['x', None])", names)
    assert made == [{"a": -1.5}, [], ["x", None]]
    assert _expressions.algorithm("fine_tuning(fed_opt(sgd(0.5)))").name == "fed_opt"
    optimizer = _expressions.of_keras("optimizer", "SGD(momentum=0.5)")
    assert float(optimizer.momentum) == 0.5
    assert _expressions.of_keras("loss", "mse") == "mse"
    assert train._split("accuracy,TopK(k=2,name='a'),mse") == [
        "accuracy",
        "TopK(k=2,name='a')",
        "mse",
    ]


MISTAKES = [
    (f"train {VISITS} --rounds 0", "'0'"),
    ("train --data {f}/visits.csv --client user", "--label=COLUMN"),
    ("train --data {f}/visits.csv --client usr --label bought", "such as 'user'"),
    ("train --data {f}/visits.csv --client user --label bougth", "'bougth'"),
    (
        "train --data {f}/visits.csv --client user --x minutes --label spent "
        "--model {f}/uncompiled.keras",
        "--loss=NAME",
    ),
    (f"train {VISITS} --model {{f}}/compiled.keras --text a", "--x="),
    (f"train {VISITS} --loss nothing", "--loss='nothing'"),
    (f"train {VISITS} --image_size 3,3", "--image_size=3,3"),
    (f"train {VISITS} --class_names a,b", "'yes'"),
    (f"train {VISITS} --partitioner uniform(num_clients=2)", "--partitioner="),
    (
        "train --data {f}/letters.csv --client author --text letter --model {f}/compiled.keras",
        "1 outputs",
    ),
    ("generate --model {f}/compiled.keras --prompt a --data {f}/visits.csv", "--text=COLUMN"),
]


@pytest.mark.parametrize("arguments, received", MISTAKES)
def test_mistakes(folder, tmp_path, monkeypatch, capsys, arguments, received):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(arguments.format(f=folder).split(" "))
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert code == 2
    check_line(err.partition(": error: ")[2], received)
    assert not (tmp_path / "runs").exists()


def test_the_default_network_of_clients():
    ann = {"age": [20.0, 40.0], "height": [[1.0, 5.0], [3.0, 5.0]], "city": ["oslo", "rome"]}
    clients = fl.ClientData.from_dict({"ann": {**ann, "y": [0, 1]}})
    model = fl.models.dense(clients, hidden=[])
    # 1 + 2 numbers, and one-hot: unknown, oslo, rome; two classes.
    assert model.count_params() == (3 + 3) * 2 + 2
    model.set_weights([np.arange(12).reshape(6, 2), np.zeros(2)])
    columns = {
        "age": np.array([50.0]),
        "height": np.array([[2.0, 5.0]]),
        "city": np.array(["bonn"]),
    }
    inputs = {name: tf.convert_to_tensor(column) for name, column in columns.items()}
    np.testing.assert_allclose(model(inputs), [[2 * 0 + 6, 2 * 1 + 7]], rtol=1e-5)
    number = fl.models.dense(clients, num_classes=0, learning_rate=0.1)
    assert float(number.optimizer.learning_rate) == pytest.approx(0.1 / 0.25)  # their variance
    for wrong, message in [
        ({"y": ["a", "b"], "x": [1.0, 2.0]}, "texts"),
        ({"x": [1.0, 2.0]}, "'y'"),
        ({"x": np.zeros([2, 3, 3]), "y": [0, 1]}, "[3, 3]"),
    ]:
        with pytest.raises(ValueError) as raised:
            fl.models.dense(fl.ClientData.from_dict({"ann": wrong}))
        assert message in str(raised.value)
    with pytest.raises(ValueError, match="max_words=1"):
        fl.models.dense(clients, max_words=1)


def test_classes_that_only_test_clients_have():
    clients = {name: {"x": [[float(i)]], "y": [i]} for i, name in enumerate("abc")}
    train_data, test_data = (
        fl.ClientData.from_dict({name: clients[name] for name in names}) for names in ("ab", "c")
    )
    assert fl.models.dense(train_data).output_shape == (None, 2)
    args = argparse.Namespace(
        model=None,
        text=None,
        client="a",
        seed=0,
        client_learning_rate=None,
        data="a.csv",
        optimizer=None,
        loss=None,
        metrics=None,
    )
    known = train._preprocessing.Preprocessing()
    made = train._model(args, None, train_data, {"test": test_data}, known)
    assert made.output_shape == (None, 3)


def test_help_shows_an_example(capsys):
    parser = argparse.ArgumentParser(prog="fedlab train")
    train.add_arguments(parser)
    assert "fedlab train --data visits.csv --client user_id" in parser.format_help()
