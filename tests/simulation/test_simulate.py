"""The round loop, the run folder and central evaluation."""

import csv
import json
import logging
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl

keras = tf.keras


@pytest.fixture(scope="module")
def data():
    return fl.datasets.shakespeare.synthetic(num_clients=5)


def small_model():
    """A next-character model without recurrent layers, whose graphs take long to trace."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input([None], dtype="int32"),
        keras.layers.Embedding(86, 4),
        keras.layers.Dense(6, "tanh"),
        keras.layers.Dense(86),
    ]
    return fl.models.compile_char_rnn(keras.Sequential(layers))


def simulate(data, model=None, **options):
    options = {
        "rounds": 3,
        "clients_per_round": 2,
        "max_batches": 2,
        "num_workers": 1,
        "progress": False,
        **options,
    }
    return fl.simulate(
        model or small_model(), data[0], fl.algorithms.fed_avg(server_momentum=0.5), **options
    )


def same_weights(first, second):
    return all(
        np.array_equal(a, b) for a, b in zip(first.model.get_weights(), second.model.get_weights())
    )


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    return simulate(
        data, evaluate_on={"other": data[1]}, run_dir=tmp_path_factory.mktemp("runs") / "whole"
    )


def test_history_and_tables(whole_run):
    assert [row["round"] for row in whole_run.history] == [0, 1, 2, 3]
    assert {
        "train_loss",
        "train_accuracy",
        "other_loss",
        "other_accuracy",
        "bytes_up",
        "seconds",
    } <= set(whole_run.history[1])
    with open(whole_run.path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["other_loss"]) for row in rows] == [
        row["other_loss"] for row in whole_run.history
    ]
    assert len(whole_run.clients) == 6
    assert (
        json.loads((whole_run.path / "config.json").read_text())["algorithm_settings"][
            "server_momentum"
        ]
        == 0.5
    )


@pytest.mark.parametrize("in_folder", [True, False], ids=["in a folder", "in memory"])
def test_ctrl_c_says_which_round_is_saved(data, tmp_path, in_folder):
    def interrupt(round):
        if round.round_num == 2:  # which is not saved yet
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run" if in_folder else None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            simulate(data, callbacks=[interrupt], run_dir=folder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert raised.value.__notes__ == [
        f"round 1 of 3 is saved in {folder}; run the same call again to resume"
        if in_folder
        else "nothing is saved; pass run_dir= to be able to resume such a run"
    ]


def test_a_run_in_memory_has_settings_and_a_report(data, tmp_path, whole_run):
    run = simulate(data, rounds=1, evaluate_on={"other": data[1], "each": fl.per_client(data[1])})
    config = json.loads((whole_run.path / "config.json").read_text())
    data_of_the_run = {"initial_weights", "client_ids", "training_data", "evaluation_data"}
    only_in_folders = {*data_of_the_run, "rounds", "commit"}
    assert config.keys() - run.settings.keys() == only_in_folders
    assert run.settings["algorithm_settings"]["server_momentum"] == 0.5
    assert whole_run.settings.items() <= {**config, **whole_run.settings}.items()
    assert str(run).startswith("Run: fed_avg, 1 round, 2 clients per round, ")
    pytest.importorskip("jinja2")
    page = run.report(tmp_path / "page.html").read_text()
    assert page == (tmp_path / "page.html").read_text() and "fed_avg" in page
    assert all(client["client_id"] in page for client in run.clients[:1])
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_the_model_handed_over_is_not_changed(data):
    model = small_model()
    before = model.get_weights()
    run = simulate(data, model, rounds=1)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert not same_weights(run, run._replace(model=model))


@pytest.mark.slow
def test_plain_keras_in_a_fresh_python_gives_the_same_evaluation(whole_run, data, tmp_path):
    np.savez(tmp_path / "test.npz", **data[1].to_arrays())
    program = (
        "import sys, json, numpy as np, tensorflow as tf\n"
        "d = np.load(sys.argv[2])\n"
        "model = tf.keras.models.load_model(sys.argv[1])\n"
        "result = model.evaluate(d['x'], d['y'], sample_weight=d['sample_weight'], "
        "batch_size=64, verbose=0, return_dict=True)\n"
        "print(json.dumps(result)); assert 'fedlab' not in sys.modules"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(whole_run.path / "model.keras"),
        str(tmp_path / "test.npz"),
    ]
    answer = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    for name, value in answer.items():
        assert whole_run.history[-1][f"other_{name}"] == pytest.approx(value, rel=1e-6)


def test_same_seed_same_bits_whatever_the_workers(whole_run, data):
    again = simulate(data, num_workers=3, evaluate_on={"other": data[1]})
    assert same_weights(whole_run, again)
    assert without_seconds(whole_run.history) == without_seconds(again.history)
    assert not same_weights(whole_run, simulate(data, seed=1))


def test_an_interrupted_run_resumes_bit_identically(whole_run, data, tmp_path):
    options = {"evaluate_on": {"other": data[1]}, "run_dir": tmp_path / "run"}
    simulate(data, rounds=1, **options)
    run = simulate(data, rounds=3, **options)
    assert same_weights(whole_run, run) and without_seconds(whole_run.history) == without_seconds(
        run.history
    )
    done = simulate(data, rounds=3, **options)  # nothing is left to do
    assert same_weights(run, done) and done.history == run.history


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    whole_run, data, tmp_path, caplog
):
    options = {"evaluate_on": {"other": data[1]}, "run_dir": tmp_path / "run"}
    simulate(data, rounds=2, **options)
    last = tmp_path / "run" / "checkpoints" / "round_000002.npz"
    damaged = bytearray(last.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    last.write_bytes(damaged)
    with caplog.at_level(logging.WARNING, "fedlab"):
        run = simulate(data, rounds=3, **options)
    (record,) = (each for each in caplog.records if "round_000002.npz" in each.getMessage())
    assert "round_000002.npz is damaged" in record.getMessage()
    assert same_weights(whole_run, run)


def test_other_settings_on_a_run_folder_are_refused(whole_run, data):
    before = sorted(whole_run.path.iterdir())
    with pytest.raises(ValueError, match="seed is 5, was 0"):
        simulate(data, seed=5, run_dir=whole_run.path, evaluate_on={"other": data[1]})
    assert sorted(whole_run.path.iterdir()) == before


def test_a_folder_of_other_things_is_refused(data, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        simulate(data, run_dir=tmp_path)


@pytest.mark.slow
def test_a_subclassed_model_comes_as_a_function(data):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding, self.dense = keras.layers.Embedding(86, 4), keras.layers.Dense(86)

        def call(self, x):
            return self.dense(self.embedding(x))

    def make():
        keras.utils.set_random_seed(0)
        model = fl.models.compile_char_rnn(Model())
        model(np.zeros([1, 100], np.int32))
        return model

    run = simulate(data, make, rounds=2)
    assert run.history[-1]["train_loss"] < run.history[1]["train_loss"]
    with pytest.raises(
        ValueError, match="subclassed model, which Keras cannot copy: pass a function"
    ):
        simulate(data, make())


def test_evaluation_is_that_of_keras(data):
    model = small_model()
    ours = fl.evaluate(model, data[1], batch_size=8, num_workers=2)
    theirs = model.evaluate(data[1].to_dataset(batch_size=8), verbose=0, return_dict=True)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_evaluation_of_a_stateful_model_is_that_of_keras(data):
    columns = {name: column[:16] for name, column in data[1].to_arrays().items()}
    model = fl.models.char_rnn(units=6, embedding_dim=4, stateful=True, batch_size=8)
    ours = fl.evaluate(model, columns)
    dataset = tf.data.Dataset.from_tensor_slices(
        (columns["x"], columns["y"], columns["sample_weight"])
    ).batch(8)
    assert ours == pytest.approx(model.evaluate(dataset, verbose=0, return_dict=True), rel=1e-6)


@pytest.mark.slow
def test_metrics_of_a_user_function_are_in_the_history(data, tmp_path):
    examples = data[1].to_arrays()
    seen = []

    def score(model, round_num):
        seen.append(round_num)
        loss, accuracy = model.evaluate(
            examples["x"], examples["y"], 64, 0, examples["sample_weight"]
        )
        model.set_weights(
            [np.zeros_like(w) for w in model.get_weights()]
        )  # of its own model, which the run does not read
        return {"loss": loss, "accuracy": np.float32(accuracy), "round": round_num}

    options = {"evaluate_on": {"own": score, "other": data[1], "again": score}, "evaluate_every": 2}
    run = simulate(data, run_dir=tmp_path / "whole", **options)
    assert seen == [0, 0, 2, 2, 3, 3]
    assert [row.get("own_round") for row in run.history] == [0, None, 2, 3]
    for row in run.history[::2]:
        assert (
            row["own_loss"] == pytest.approx(row["other_loss"], rel=1e-6)
            and row["own_loss"] == row["again_loss"]
        )
        assert (
            row["own_accuracy"] == pytest.approx(row["other_accuracy"])
            and type(row["own_accuracy"]) is float
        )

    del options["evaluate_every"]
    simulate(data, rounds=2, run_dir=tmp_path / "parts", **options)
    parts = simulate(data, run_dir=tmp_path / "parts", **options)
    assert same_weights(run, parts)
    assert without_seconds(parts.history) == without_seconds(simulate(data, **options).history)
    with pytest.raises(ValueError, match="other settings: evaluation_examples.own is "):
        simulate(data, run_dir=tmp_path / "parts", evaluate_on={"own": lambda model, round_num: {}})


@pytest.mark.slow
def test_a_callable_object_resumes_after_an_interruption(data, tmp_path):
    class Norm:
        def __call__(self, model, round_num):
            return {"norm": sum(np.abs(w).sum() for w in model.get_weights())}

    for rounds in (1, 2):
        run = simulate(data, rounds=rounds, evaluate_on=Norm(), run_dir=tmp_path / "run")
    assert [row["test_norm"] > 0 for row in run.history] == [True] * 3


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "returned None: expected a dict"),
        ({1: 2.0}, "returned {1: 2.0}: expected a dict"),
        ({"loss": "low"}, "returned loss='low': expected a number"),
        ({"loss": [1.0, 2.0]}, "returned loss=.1.0, 2.0.: expected a number"),
    ],
)
def test_a_function_that_gives_no_numbers(data, value, message):
    with pytest.raises(ValueError, match=f"evaluate_on.'own'. {message}"):
        simulate(data, evaluate_on={"own": lambda model, round_num: value})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rounds": 0}, "rounds=0: expected an integer of at least 1"),
        ({"clients_per_round": 9}, "clients_per_round=9: expected an integer between 1 and 5"),
        ({"clients_per_round": None}, "either clients_per_round .* or cohort"),
        ({"cohort": ["nobody"], "clients_per_round": None}, r"unknown clients \['nobody'\]"),
        ({"engine": "spark"}, "'spark' is not one of the engines: expected local, tff"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"non_trainable": "drop"}, "non_trainable='drop'"),
        ({"evaluate_every": 0}, "evaluate_every=0"),
    ],
)
def test_bad_arguments_raise_one_line_errors(data, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(data, **options)


def test_models_that_cannot_train(data):
    uncompiled = keras.Sequential([keras.layers.Embedding(86, 4), keras.layers.Dense(86)])
    with pytest.raises(ValueError, match="is not compiled: call model.compile"):
        simulate(data, uncompiled)
    with pytest.raises(TypeError, match="model: expected a compiled .*, got str"):
        simulate(data, "model.keras")
    with pytest.raises(TypeError, match="clients: expected a fedlab.ClientData, .* got dict"):
        fl.simulate(small_model(), {}, rounds=1, clients_per_round=1)
