"""A client's row holds all its training metrics, as Keras's `fit` reports them for its data."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.cli import main

keras = tf.keras


class Largest(keras.metrics.Metric):
    """The largest prediction and the number of predictions; the state does not add up."""

    def __init__(self, name="largest", **options):
        super().__init__(name=name, **options)
        self.value = self.add_weight(name="value", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(tf.maximum(self.value, tf.reduce_max(y_pred)))
        self.count.assign_add(tf.cast(tf.size(y_pred), tf.float32))

    def result(self):
        return {"top": self.value, "predictions": self.count}


def made():
    model = keras.Sequential([keras.layers.Dense(2, input_shape=[3], activation="softmax")])
    model.compile(
        keras.optimizers.SGD(0.3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy", Largest()],
    )
    for i, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(i).normal(size=weight.shape))
    return model


def columns(seed, num_examples):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=[num_examples, 3]).astype(np.float32),
        "y": rng.integers(0, 2, num_examples),
    }


@pytest.mark.slow
def test_rows_hold_what_fit_reports(tmp_path, capsys):
    data = {"a": columns(0, 7), "b": columns(1, 4), "empty": columns(2, 0), "bad": columns(3, 2)}
    data["bad"]["x"] = data["bad"]["x"] * np.nan
    options = {"rounds": 1, "cohort": [*data], "batch_size": 3, "shuffle": False, "progress": False}
    run = fl.simulate(made(), fl.ClientData.from_dict(data), run_dir=tmp_path / "run", **options)
    rows = {row["client_id"]: row for row in run.clients}
    for client_id in ("a", "b"):
        expected = (
            made().fit(*data[client_id].values(), batch_size=3, shuffle=False, verbose=0).history
        )
        for name in ("accuracy", "top", "predictions"):
            assert rows[client_id]["metrics"][name] == pytest.approx(expected[name][0], rel=1e-6), (
                client_id,
                name,
            )
        assert rows[client_id]["loss"] == pytest.approx(expected["loss"][0], rel=1e-6)
    assert rows["empty"]["metrics"] == {} and rows["empty"]["loss"] is None
    assert (
        rows["bad"]["dropped"] and rows["bad"]["metrics"]["predictions"] == 4
    )  # two examples of two classes
    in_memory = fl.simulate(made(), fl.ClientData.from_dict(data), **options)
    assert in_memory.clients == [*run.clients]

    for form in ("json", "csv"):
        assert (
            main(["runs", "export", str(tmp_path / "run"), "--table=clients", f"--format={form}"])
            == 0
        )
        printed = capsys.readouterr().out
        exported = (
            json.loads(printed) if form == "json" else [*csv.DictReader(printed.splitlines())]
        )
        assert [float(row["train_accuracy"]) for row in exported[:2]] == [
            rows[name]["metrics"]["accuracy"] for name in ("a", "b")
        ]
