"""Dropped clients: reports of the others, warnings, and rounds that lose every client."""

import csv
import json
import logging

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import algorithms
from fedlab.clients import Participation
from fedlab.runs.read.recorded import read_run
from fedlab.runs.read.report import write_report

NAN = float("nan")


def line(learning_rate=0.1, **options):
    """y = w x from w = 0 with loss (y - w)^2: at x = 1 a step takes w to 0.8 w + 0.2 y."""
    layers = [
        tf.keras.Input([1]),
        tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
    ]
    model = tf.keras.Sequential(layers)
    model.compile(tf.keras.optimizers.SGD(learning_rate, **options), "mse", metrics=["mae"])
    return model


def clients_of(**goals):
    rows = {name: np.array(values, np.float32).reshape(-1, 1) for name, values in goals.items()}
    return fl.ClientData.from_dict(
        {name: {"x": np.ones_like(y), "y": y} for name, y in rows.items()}
    )


def run(clients, model=None, **options):
    options = {"rounds": 1, "cohort": list(clients), "progress": False, "num_workers": 1, **options}
    return fl.simulate(line() if model is None else model, clients, **options)


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def only(names):
    """A sampler: each round's cohort."""
    return lambda client_ids, round_num, seed: names[round_num - 1]


GOALS = clients_of(good=[1.0, 1.0], better=[2.0], bad=[NAN], worse=[NAN, NAN], nobody=[])


@pytest.mark.parametrize("engine", ["local", "tff"])
def test_the_finite_clients_alone_count_by_hand(engine, caplog):
    if engine == "tff":
        pytest.importorskip("tensorflow_federated")
    result = run(GOALS, engine=engine, cohort=["good", "bad", "better", "nobody", "worse"])
    row = result.history[-1]
    assert (row["clients_finished"], row["clients_dropped"]) == (3, 2)
    assert row["train_loss"] == pytest.approx((2 * 1 + 4) / 3) and row[
        "train_mae"
    ] == pytest.approx(4 / 3)
    which = "first 'bad'" if engine == "local" else "not finite: 2)"
    assert len(warnings_of(caplog)) == 1 and which in warnings_of(caplog)[0]
    if engine == "local":
        losses = {client["client_id"]: client["loss"] for client in result.clients}
        assert losses == {"good": 1.0, "better": 4.0, "bad": None, "worse": None, "nobody": None}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("tff", marks=pytest.mark.slow)])
def test_a_lost_round_has_no_training_metrics(engine, tmp_path, caplog):
    if engine == "tff":
        pytest.importorskip("tensorflow_federated")
    cohort = only([["good"], ["bad", "worse"], ["good", "bad"], ["nobody", "bad"]])
    options = dict(
        rounds=4, cohort=cohort, engine=engine, evaluate_on={"test": GOALS.select(["good"])}
    )
    result = run(GOALS, run_dir=tmp_path / "run", **options)
    lost = result.history[2]
    assert (lost["train_loss"], lost["train_mae"], lost["clients_finished"]) == (None, None, 0)
    assert lost["test_loss"] == result.history[1]["test_loss"] == pytest.approx(0.64)
    assert result.history[3]["train_loss"] == pytest.approx(0.64)
    assert result.history[4]["train_loss"] is None and result.history[4]["clients_finished"] == 1
    text = (tmp_path / "run" / "metrics.csv").read_text()
    table = [*csv.DictReader(text.splitlines())]
    assert table[2]["train_loss"] == "" and "nan" not in text.lower()
    assert read_run(tmp_path / "run").history == result.history
    assert "null" in json.dumps(read_run(tmp_path / "run").history)
    write_report(tmp_path / "run")
    (warning,) = warnings_of(caplog)
    assert warning.startswith("round 2 has no usable update (not finite: 2, first 'bad')")


@pytest.mark.parametrize("engine", ["local", pytest.param("tff", marks=pytest.mark.slow)])
def test_clients_lost_to_conditions_can_lose_a_round(engine, caplog):
    if engine == "tff":
        pytest.importorskip("tensorflow_federated")

    def by_round(client_id, round_num, seed):
        return Participation(drop_reason="dropout" if round_num == 1 else "")

    result = run(GOALS, rounds=2, cohort=["good", "better"], conditions=by_round, engine=engine)
    assert result.history[1]["train_loss"] is None and result.history[1]["clients_dropped"] == 2
    assert result.model.get_weights()[0] == pytest.approx(0.2 * 4 / 3)
    assert "round 1 has no usable update (dropout: 2, first 'good')" in caplog.text
    caplog.clear()
    run(
        GOALS,
        cohort=["good", "better"],
        conditions=lambda client_id, *_: Participation(
            drop_reason="dropout" if client_id == "good" else ""
        ),
    )
    assert not warnings_of(caplog)  # they are what was asked for


METHODS = {
    "fed_avg": algorithms.fed_avg(server_momentum=0.9),
    "fed_adam": algorithms.fed_adam(0.1),
    "fed_nova": algorithms.fed_nova(),
    "fed_dyn": algorithms.fed_dyn(0.1),
    "scaffold": algorithms.scaffold(),
    "mime": algorithms.mime(),
    "mime_lite": algorithms.mime_lite(),
    "local_adam": algorithms.local_adam(),
}
AGGREGATORS = {
    "median": fl.aggregators.median(),
    "krum": fl.aggregators.krum(0.1),
    "clipped": fl.aggregators.clipped(norm=1.0),
}


NOT_FINITE, DROPOUT = None, fl.clients.dropouts(1.0)


LOST = [
    *((method, NOT_FINITE) for method in [*METHODS, *AGGREGATORS]),
    *((method, DROPOUT) for method in ("mime", "local_adam", "krum")),
]
# By default one method of each kind: without a client state, with one, with a survey, with
# another broadcast, and with an aggregator that collects updates.
FAST = [(method, NOT_FINITE) for method in ("fed_avg", "scaffold", "local_adam", "krum")]
FAST.append(("mime", DROPOUT))


@pytest.mark.parametrize(
    "method, conditions",
    [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in LOST],
)
def test_a_lost_first_round_leaves_the_weights(method, conditions):
    model = line(momentum=0.9) if "mime" in method else line()
    if method == "local_adam":
        model.optimizer = tf.keras.optimizers.Adam(0.1)
    options = dict(
        algorithm=METHODS.get(method), aggregator=AGGREGATORS.get(method), conditions=conditions
    )
    result = run(GOALS, model, cohort=["bad", "worse"], **options)
    assert result.model.get_weights()[0] == 0.0 and result.history[1]["train_loss"] is None


@pytest.mark.slow
def test_rounds_without_an_update_end_the_run_which_can_be_continued(tmp_path):
    cohort = only([["bad"], ["good"], ["bad"], ["bad", "worse"], ["good"]])
    options = dict(rounds=5, cohort=cohort, run_dir=tmp_path / "run")
    for _ in range(2):  # the same call ends in the same error
        with pytest.raises(
            RuntimeError,
            match=r"^rounds 3 to 4 have no usable update \([^\n]*max_dropped_rounds, now 2$",
        ):
            run(GOALS, max_dropped_rounds=2, **options)
    assert read_run(tmp_path / "run").rounds_done == 4
    resumed, whole = (
        run(GOALS, **options),
        run(GOALS, **{**options, "run_dir": None}, max_dropped_rounds=None),
    )
    assert resumed.model.get_weights() == whole.model.get_weights() and resumed.history[-1][
        "train_loss"
    ] == pytest.approx(0.64)


@pytest.mark.slow
def test_lost_rounds_before_an_interruption_count(tmp_path):
    run(GOALS, rounds=2, cohort=["bad"], run_dir=tmp_path / "run")
    with pytest.raises(
        RuntimeError, match=r"^rounds 1 to 3 have no usable update \(not finite: 1, first 'bad'\)"
    ):
        run(GOALS, rounds=9, cohort=["bad"], run_dir=tmp_path / "run")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_max_dropped_rounds_is_checked(value):
    with pytest.raises(
        ValueError, match="^max_dropped_rounds=.*: expected an integer of at least 1, or None"
    ):
        run(GOALS, cohort=["good"], max_dropped_rounds=value)
