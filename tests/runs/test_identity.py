"""A run folder is resumed only with the settings that the run started with."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab._fingerprint import plain
from fedlab.learner import identity
from tests.runs import same_run

K = tf.keras


def model(
    rate=0.1,
    activation="relu",
    loss="mse",
    metrics=("mae",),
    optimizer=None,
    trainable=True,
    without_decay=None,
    **compiled,
):
    layers = [
        K.layers.Dense(2, activation, input_shape=[3]),
        K.layers.Dropout(rate),
        K.layers.Dense(1, trainable=trainable),
    ]
    made = K.Sequential(layers)
    optimizer = optimizer or K.optimizers.AdamW(0.1)
    if without_decay:
        optimizer.exclude_from_weight_decay(var_names=without_decay)
    made.compile(optimizer, loss, metrics=list(metrics), **compiled)
    made.set_weights([np.full(w.shape, 0.1) for w in made.get_weights()])
    return made


def examples(y=1.0, x=1.0):
    return {"x": np.full([4, 3], x, np.float32), "y": np.full([4, 1], y, np.float32)}


def clients(**values):
    return fl.ClientData.from_dict({"a": examples(**values), "b": examples()})


def scored(scale):
    return lambda model, round_num: {"score": scale}


def simulate(folder, made=None, data=None, algorithm=None, **options):
    sets = {"test": clients(), "own": scored(1.0)}
    options = {"cohort": ["a", "b"], "rounds": 1, "evaluate_on": sets, "progress": False, **options}
    return fl.simulate(made or model(), data or clients(), algorithm, run_dir=folder, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("runs") / "run").path


def loss_with(scale):
    return lambda y, predicted: tf.reduce_mean(tf.abs(y - predicted) * scale, axis=-1)


def sets(**changes):
    return {"evaluate_on": {"test": clients(), "own": scored(1.0), **changes}}


CHANGES = {
    "loss": (
        lambda: dict(made=model(loss="mae")),
        "loss is 'mean_absolute_error', was 'mean_squared_error'; choose",
    ),
    "loss function": (
        lambda: dict(made=model(loss=loss_with(1.0))),
        "loss is the function loss_with.*, was 'mean_squared_error'; choose",
    ),
    "loss object": (
        lambda: dict(made=model(loss=K.losses.Huber(0.5))),
        r"loss is Huber\(.*, was 'mean_squared_error'; choose",
    ),
    "loss weights": (
        lambda: dict(made=model(loss_weights=[2.0])),
        r"loss_weights is \[2.0\], was None",
    ),
    "dropout rate": (
        lambda: dict(made=model(rate=0.5)),
        r"layers\[1\].rate is 0.5, was 0.1; choose",
    ),
    "activation": (
        lambda: dict(made=model(activation="tanh")),
        r"layers\[0\].activation is 'tanh', was 'relu'; choose",
    ),
    "frozen layer": (
        lambda: dict(made=model(trainable=False)),
        r"layers\[2\].trainable is False, was True",
    ),
    "metrics": (lambda: dict(made=model(metrics=["mse"])), r"metrics\[0\] is 'mse', was 'mae'"),
    "weighted metrics": (
        lambda: dict(made=model(weighted_metrics=["mse"])),
        r"weighted_metrics is \['mse'\], was None",
    ),
    "optimizer": (
        lambda: dict(made=model(optimizer=K.optimizers.AdamW(0.1, beta_1=0.5))),
        "optimizer.beta_1 is 0.5, was 0.9",
    ),
    "other optimizer": (
        lambda: dict(made=model(optimizer=K.optimizers.SGD())),
        "optimizer.class is 'SGD', was 'AdamW'; .*optimizer.learning_rate is 0.01, was 0.1; ",
    ),
    "learning rate": (
        lambda: dict(made=model(optimizer=K.optimizers.AdamW(0.3))),
        "^optimizer.learning_rate is 0.3, was 0.1; choose",
    ),
    "algorithm": (
        lambda: dict(algorithm=fl.algorithms.fed_avgm(0.5)),
        "^algorithm is 'fed_avgm', was 'fed_avg'; "
        "algorithm_settings.server_learning_rate is 0.5, was 1.0; choose",
    ),
    "setting of the algorithm": (
        lambda: dict(algorithm=fl.algorithms.fed_avg(server_momentum=0.9)),
        "^algorithm_settings.server_momentum is 0.9, was 0.0; choose",
    ),
    "schedule": (
        lambda: dict(client_learning_rate=fl.optimizers.schedules.cosine(0.5, rounds=4)),
        r"client_learning_rate is cosine\(.*rounds=4.*\), was None; choose",
    ),
    "aggregator": (
        lambda: dict(aggregator=fl.aggregators.trimmed_mean(0.4)),
        "^aggregator is 'trimmed_mean', was 'mean'; choose",
    ),
    "weight decay": (
        lambda: dict(made=model(without_decay=["bias"])),
        r"optimizer.weights_without_decay is \[1, 3\], was None",
    ),
    "labels": (lambda: dict(data=clients(y=0.0)), "training_data is '.{8}', was '.{8}'; choose"),
    "inputs": (lambda: dict(data=clients(x=0.5)), "training_data is"),
    "evaluation examples": (
        lambda: sets(test=clients(y=2.0)),
        "evaluation_data.test is '.{8}', was '.{8}'; choose",
    ),
    "evaluation per client": (
        lambda: sets(test=fl.per_client(clients())),
        r"evaluation_examples.test is \(clients=2, test=8\), was 8",
    ),
    "evaluation function": (
        lambda: sets(own=scored(2.0)),
        "the code of evaluation_data.own has changed; choose",
    ),
    "evaluation batch size": (
        lambda: dict(evaluation_batch_size=2),
        "evaluation_batch_size is 2, was 64",
    ),
    "evaluate every": (lambda: dict(evaluate_every=2), "evaluate_every is 2, was 1"),
    "cohort": (lambda: dict(cohort=["a"]), r"cohort.cohort\[1\] is None, was 'b'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_by_name(folder, name):
    options, message = CHANGES[name]
    for rounds in (1, 2):  # whether the run is finished or not
        with pytest.raises(
            ValueError,
            match=f"holds a run of other settings: {message.removeprefix('^')}"
            if message[0] == "^"
            else f"holds a run of other settings: .*{message}",
        ) as error:
            simulate(folder, **{"rounds": rounds, **options()})
        assert len(str(error.value)) < 500 and "\n" not in str(error.value)


@pytest.mark.slow
def test_what_does_not_change_the_result_is_the_same_run(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "run")
    for ending in ("keras", "h5"):
        model().save(tmp_path / f"model.{ending}")
        loaded = fl.models.load(tmp_path / f"model.{ending}")
        assert simulate(copy, loaded, num_workers=1).history[-1]["round"] == 1
    assert simulate(copy, rounds=2, num_workers=2).history[-1]["round"] == 2


@pytest.mark.slow
def test_the_same_script_is_the_same_run_in_this_process_and_in_others(tmp_path):
    K.Sequential(
        [K.layers.Dense(1), K.layers.Dense(1)]
    )  # numbers that the first run's layers do not get
    same_run.run(tmp_path / "run", 1)
    same_run.run(tmp_path / "run", 1)
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.runs.same_run", str(tmp_path / "run"), "2"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert fl.runs.read_run(tmp_path / "run").rounds_done == 2
    with pytest.raises(ValueError, match="the code of cohort has changed; choose"):
        same_run.run(tmp_path / "run", 2, cohort=lambda client_ids, round_num, seed: client_ids[1:])


def networks():
    """Models whose identity a configuration alone does not tell."""

    class Own(K.Model):
        def __init__(self, rate=0.5, units=2):
            super().__init__()
            self.drop, self.dense, self.rate = K.layers.Dropout(rate), K.layers.Dense(units), rate

        def call(self, inputs):
            return self.dense(self.drop(inputs))

    class Minus(Own):
        def call(self, inputs):
            return -super().call(inputs)

    def shared(twice):
        inputs, dense = K.Input([2]), K.layers.Dense(2)
        first = dense(inputs)
        return K.Model(inputs, dense(first) if twice else K.layers.Add()([first, inputs]))

    def branches(swapped):
        inputs = K.Input([2])
        outputs = [K.layers.Dense(1, "relu")(inputs), K.layers.Dense(1, "relu")(inputs)]
        return K.Model(inputs, K.layers.Subtract()(outputs[::-1] if swapped else outputs))

    def scaled(by):
        inputs = K.Input([2])
        return K.Model(inputs, K.layers.Dense(1)(inputs) * by)

    def nested(rate):
        inner = K.Sequential([K.layers.Dense(2, input_shape=[2]), K.layers.Dropout(rate)])
        return K.Sequential([K.Input([2]), inner, K.layers.Dense(1)])

    def of_lambda(by):
        return K.Sequential([K.layers.Dense(1, input_shape=[2]), K.layers.Lambda(lambda x: x * by)])

    def recurrent(dropout):
        return K.Sequential(
            [K.layers.Bidirectional(K.layers.LSTM(1, dropout=dropout), input_shape=[3, 2])]
        )

    return {
        "subclassed": Own,
        "subclassed, other rate": functools.partial(Own, 0.4),
        "subclassed, other call": Minus,
        "one layer": functools.partial(shared, False),
        "a layer called twice": functools.partial(shared, True),
        "two branches": functools.partial(branches, False),
        "two branches, swapped": functools.partial(branches, True),
        "times 2": functools.partial(scaled, 2.0),
        "times 3": functools.partial(scaled, 3.0),
        "nested": functools.partial(nested, 0.1),
        "nested, other rate": functools.partial(nested, 0.2),
        "a lambda": functools.partial(of_lambda, 2),
        "a lambda of another constant": functools.partial(of_lambda, 3),
        "wrapped": functools.partial(recurrent, 0.1),
        "wrapped, other dropout": functools.partial(recurrent, 0.2),
    }


def test_networks_are_told_apart_and_recognized():
    def described(build):
        made = build()
        if not made.built:
            made.build([None, 2])
        made.compile("sgd", "mse")
        return json.dumps(identity(made), sort_keys=True)

    first = {name: described(build) for name, build in networks().items()}
    again = {name: described(build) for name, build in networks().items()}
    assert first == again and len(set(first.values())) == len(first)


THRESHOLD = 1


def test_functions_are_known_by_their_code_and_what_they_refer_to():
    def closure(number, default=1):
        return lambda x, more=default: x + number + more

    def counter(start):
        def count(x):
            nonlocal start
            start += 1
            return x

        return count

    assert plain(closure(1)) == plain(closure(1)) != plain(closure(2)) and plain(
        closure(1)
    ) != plain(closure(1, 2))
    assert plain(counter(1)) == plain(counter(2))
    assert plain(lambda x: {"a", "b"}) != plain(lambda x: {"a", "c"})
    assert plain(closure(np.arange(40))) != plain(closure(np.arange(1, 41)))
    seen = [1]
    assert plain(closure(seen)) == plain(closure([])) and plain(
        closure(seen), traced=True
    ) != plain(closure([]), traced=True)
    assert plain(tf.function(closure(1))) == plain(closure(1)) and plain(
        functools.partial(closure, 1)
    ) != plain(functools.partial(closure, 2))

    def by_global(x):
        return x > THRESHOLD

    before = plain(by_global)
    globals()["THRESHOLD"] = 2
    assert plain(by_global) != before
    globals()["THRESHOLD"] = 1
    assert plain(by_global) == before
