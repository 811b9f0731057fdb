"""Federated evaluation: values worked out by hand, resuming, workers, and fine-tuning."""

import math

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.evaluation.metric_names import STATISTICS, lower_is_better
from fedlab.evaluation.per_client import summarize
from tests.quadratics import linear_model, points, regressions


def model_at(start, rate=0.25):
    return linear_model(1, tf.keras.optimizers.SGD(rate), start)


def test_two_clients_by_hand():
    """(w - goal)^2 at w = 1: 1 for the goal 2 on three examples, 9 for the goal 4 on one."""
    found = fl.evaluate_federated(model_at(1.0), points([2, 4], [3, 1]))
    assert found.clients == [
        {"client_id": "c0", "num_examples": 3.0, "loss": 1.0},
        {"client_id": "c1", "num_examples": 1.0, "loss": 9.0},
    ]
    assert found.summary == {
        "loss": (3 * 1 + 9) / 4,
        "loss_unweighted": 5.0,
        "loss_p10": pytest.approx(1.8),
        "loss_p50": 5.0,
        "loss_p90": pytest.approx(8.2),
        "loss_worst_decile": 9.0,
    }


def test_gain_from_fine_tuning_by_hand():
    """One step of rate 1/4 goes halfway to the goal: (w - goal)^2 becomes a quarter."""
    clients = points([2, 4], [3, 1])
    found = fl.evaluate_federated(model_at(1.0), clients, local=clients)
    assert [each["personal_loss"] for each in found.clients] == [0.25, 2.25]
    assert found.summary["personal_loss"] == (3 * 0.25 + 2.25) / 4
    assert (
        found.summary["loss_gain"] == found.summary["loss"] - found.summary["personal_loss"] == 2.25
    )
    assert found.summary["personal_loss_worst_decile"] == 2.25


def test_the_worst_tenth():
    values = np.arange(21.0)
    summary = summarize([{"accuracy": v, "loss": v} for v in values], np.ones(21))
    assert (
        summary["accuracy_worst_decile"] == 1.0 and summary["loss_worst_decile"] == 19.0
    )  # of three: a tenth of 21, rounded up
    assert (summary["accuracy_p10"], summary["accuracy_p50"], summary["accuracy_p90"]) == (
        2.0,
        10.0,
        18.0,
    )


@pytest.mark.parametrize(
    "name, lower",
    [
        ("loss", True),
        ("val_mse", True),
        ("mean_absolute_error", True),
        ("perplexity", True),
        ("accuracy", False),
        ("lossless", False),
    ],
)
def test_which_way_is_better(name, lower):
    assert lower_is_better(name) is lower


@pytest.fixture(scope="module")
def texts():
    return fl.datasets.shakespeare.synthetic(num_clients=5)


def test_each_client_is_evaluated_as_keras_does(texts):
    _, test = texts
    model = fl.models.char_rnn(units=8, embedding_dim=4)
    found = fl.evaluate_federated(model, test, evaluation_batch_size=4)
    for each in found.clients:
        columns = test[each["client_id"]]
        keras = model.evaluate(
            columns["x"], columns["y"], 4, 0, columns.get("sample_weight"), return_dict=True
        )
        assert {"loss": each["loss"], "accuracy": each["accuracy"]} == pytest.approx(
            keras, rel=1e-5
        )
        assert each["num_examples"] == test.num_examples(each["client_id"])


@pytest.mark.slow
def test_the_number_of_workers_does_not_matter(texts):
    train, test = texts
    model = fl.models.char_rnn(units=8, embedding_dim=4)
    first, second = (fl.evaluate_federated(model, test, train, num_workers=n) for n in (1, 3))
    assert first == second


def test_clients_without_examples_are_left_out_of_the_means():
    empty = {"x": np.zeros([0, 1]), "y": np.zeros([0, 1])}
    some = points([2, 4], [3, 1])
    clients = fl.ClientData.from_dict({"nobody": empty, **{name: some[name] for name in some}})
    found = fl.evaluate_federated(model_at(1.0), clients)
    assert found.summary == fl.evaluate_federated(model_at(1.0), some).summary
    nobody = found.clients[0]
    assert (nobody["client_id"], nobody["num_examples"]) == ("nobody", 0.0) and math.isnan(
        nobody["loss"]
    )


def same_rows(first, second):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in first] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in second
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(fl.algorithms.fed_avg, marks=pytest.mark.slow),
        lambda: fl.algorithms.fine_tuning(fl.algorithms.scaffold()),
    ],
)
def test_in_a_run_and_after_an_interruption(tmp_path, algorithm):
    own, _, _ = regressions(num_clients=4)
    test, _, _ = regressions(num_clients=4, num_examples=5, seed=7)

    def run(folder, rounds, **options):
        model = linear_model(3, tf.keras.optimizers.SGD(0.0625), 0.3)
        return fl.simulate(
            model,
            own,
            algorithm(),
            clients_per_round=2,
            evaluate_on={"each": fl.per_client(test, own), "all": test},
            rounds=rounds,
            run_dir=folder,
            progress=False,
            **options,
        )

    whole = run(tmp_path / "whole", 3, num_workers=1)
    run(tmp_path / "parts", 1)
    parts, memory = run(tmp_path / "parts", 3, num_workers=2), run(None, 3)
    assert same_rows(parts.history, whole.history) and same_rows(memory.history, whole.history)
    assert (
        list(parts.evaluations) == list(whole.evaluations) == memory.evaluations
        and len(memory.evaluations) == 4 * 4 * 2
    )
    last = whole.history[-1]
    assert last["each_loss"] == pytest.approx(
        last["all_loss"], rel=1e-6
    )  # clients count by their examples
    assert all(
        f"each_{metric}_{end}" in last for metric in ("loss", "personal_loss") for end in STATISTICS
    )
    assert last["each_loss_gain"] == last["each_loss"] - last["each_personal_loss"]
    assert last["each_personal_loss"] == pytest.approx(
        fl.evaluate_personalized(whole.model, own, test)["loss"], rel=1e-6
    )
    assert memory.evaluations[-1] == {
        "round": 3,
        "part": "each",
        "client_id": "c3",
        "num_examples": 5.0,
        "metric": "personal_loss",
        "value": fl.evaluate_federated(whole.model, test, own).clients[-1]["personal_loss"],
    }


def test_rounds_without_evaluation_have_no_rows():
    clients = points([2, 4], [3, 1])
    options = dict(
        rounds=3,
        clients_per_round=1,
        evaluate_on=fl.per_client(clients),
        evaluate_every=2,
        progress=False,
    )
    run = fl.simulate(model_at(1.0), clients, **options)
    assert [row["round"] for row in run.evaluations] == [0, 0, 2, 2, 3, 3]
    assert ["test_loss_p10" in row for row in run.history] == [True, False, True, True]


def test_what_is_refused():
    clients = points([2, 4], [3, 1])
    with pytest.raises(
        TypeError, match="test: expected a fedlab.ClientData \\(see .*\\), got dict"
    ):
        fl.per_client({})
    with pytest.raises(
        TypeError, match="local: expected a fedlab.ClientData \\(see .*\\), got list"
    ):
        fl.per_client(clients, [])
    empty = fl.ClientData.from_dict({"a": {"x": np.zeros([0, 1]), "y": np.zeros([0, 1])}})
    with pytest.raises(
        ValueError, match="every client is empty: expected an example to evaluate on"
    ):
        fl.evaluate_federated(model_at(1.0), empty)
    with pytest.raises(
        ValueError, match="1 clients, such as \\['c1'\\], have test examples but no local examples"
    ):
        fl.simulate(
            model_at(1.0),
            clients,
            rounds=1,
            clients_per_round=1,
            evaluate_on=fl.per_client(clients, clients.select(["c0"])),
        )
    with pytest.raises(ValueError, match="'fed_avg' has no personalization: wrap it"):
        fl.evaluate_federated(model_at(1.0), clients, clients, fl.algorithms.fed_avg())
