"""What config.json records only for reports: layers, and whose examples evaluation sets hold."""

import json

import tensorflow as tf

import fedlab as fl
from fedlab.learner.layer_table import layer_table
from fedlab.runs.format import FOR_PEOPLE
from tests.quadratics import linear_model, points

keras = tf.keras


def test_layers_with_shapes_and_parameters():
    x = keras.Input([4], name="x")
    features = keras.layers.Dense(8, name="features")(x)
    scores = keras.layers.Dense(2, name="scores")(keras.layers.BatchNormalization()(features))
    model = keras.Model(x, scores)
    model.get_layer("features").trainable = False
    rows = layer_table(model)
    assert [row["class"] for row in rows] == ["InputLayer", "Dense", "BatchNormalization", "Dense"]
    assert [row["parameters"] for row in rows] == [0, 4 * 8 + 8, 4 * 8, 8 * 2 + 2]
    # The moving mean and variance do not train.
    assert [row["trainable_parameters"] for row in rows] == [0, 0, 2 * 8, 8 * 2 + 2]
    assert [row["output"] for row in rows][1:] == [["(None, 8)"], ["(None, 8)"], ["(None, 2)"]]


def simulate(folder, rounds=1, **options):
    clients = points(range(4), [1] * 4)
    more = points(range(6), [2] * 6)  # c0 to c5, of which c4 and c5 never train
    sets = {
        "new": more.select(["c4", "c5"]),
        "some": fl.per_client(more),
        "all": clients.select(["c0", "c1"]),
        "function": lambda model, round_num: {"zero": 0.0},
    }
    fl.simulate(
        linear_model(1, keras.optimizers.SGD(0.1)),
        clients,
        rounds=rounds,
        evaluate_on=sets,
        run_dir=folder,
        progress=False,
        **options,
    )
    return json.loads((folder / "config.json").read_text())


def test_whose_examples_evaluation_sets_hold(tmp_path):
    config = simulate(tmp_path / "run", clients_per_round=2)
    assert config["evaluation_clients"] == {
        "new": {"clients": 2, "training": 0},
        "some": {"clients": 6, "training": 4},
        "all": {"clients": 2, "training": 2},
    }
    page = (tmp_path / "run" / "report.html").read_text()
    assert "4 examples of 2 clients, none of which trains" in page
    assert "6 clients (4 of which may train), evaluated one by one" in page
    # They are not settings: a folder without them is resumed, and gets them.
    without = {name: value for name, value in config.items() if name not in FOR_PEOPLE}
    (tmp_path / "run" / "config.json").write_text(json.dumps(without))
    again = simulate(tmp_path / "run", rounds=2, clients_per_round=2)
    assert again["evaluation_clients"] == config["evaluation_clients"]
    assert again.keys() == config.keys() and again["rounds"] == 2


def test_with_a_fixed_cohort_only_its_clients_train(tmp_path):
    config = simulate(tmp_path / "run", cohort=["c0", "c3"])
    assert config["evaluation_clients"]["some"] == {"clients": 6, "training": 2}
    assert config["evaluation_clients"]["all"] == {"clients": 2, "training": 1}
