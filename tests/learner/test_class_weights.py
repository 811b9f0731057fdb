"""`class_weight` trains as `fit(class_weight=...)` of plain Keras."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from tests.stacks import IS_KERAS_3, keras_2

keras = tf.keras
layers = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=[10, 3]).astype(np.float32)
STEPS = RNG.normal(size=[10, 4, 3]).astype(np.float32)
CLASSES = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1, 2])
BINARY = (CLASSES > 0).astype(np.float32)
POSITIONS = RNG.integers(0, 3, [10, 4])
SAMPLE_WEIGHT = RNG.uniform(0.1, 2.0, 10).astype(np.float32)
SAMPLE_WEIGHT[3] = 0.0
WEIGHTS = {0: 0.5, 1: 3.0, 2: 0.0}
TWO = {0: 0.25, 1: 4.0}


def model(loss, shape=(3,), units=3, activation="softmax", batch_size=None):
    made = keras.Sequential([layers.Input(shape, batch_size), layers.Dense(units, activation)])
    made.compile(
        keras.optimizers.SGD(0.5, momentum=0.9),
        loss,
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    )
    for i, weight in enumerate(made.weights):
        weight.assign(np.random.default_rng(i).normal(size=weight.shape))
    return made


def trained(made, columns, class_weight, clients=None, **options):
    clients = clients or fl.ClientData.from_dict({"a": columns})
    options = {
        "batch_size": 5,
        "local_epochs": 2,
        "shuffle": False,
        "num_workers": 1,
        "progress": False,
        **options,
    }
    return fl.simulate(
        made, clients, rounds=1, cohort=[*clients], class_weight=class_weight, **options
    )


def assert_same(found, expected):
    for ours, theirs in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


SPARSE, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"


LABELS = {
    "numbers": (lambda: model(SPARSE), X, CLASSES, WEIGHTS),
    "a column of numbers": (lambda: model(SPARSE), X, CLASSES[:, None], WEIGHTS),
    "one-hot": (lambda: model(ONE_HOT), X, np.eye(3, dtype=np.float32)[CLASSES], WEIGHTS),
    "binary": (
        lambda: model("binary_crossentropy", units=1, activation="sigmoid"),
        X,
        BINARY[:, None],
        TWO,
    ),
    "binary numbers": (lambda: model("mse", units=1, activation="sigmoid"), X, BINARY, TWO),
    "one-hot positions": (
        lambda: model(ONE_HOT, (4, 3)),
        STEPS,
        np.eye(3, dtype=np.float32)[POSITIONS],
        WEIGHTS,
    ),
}
# With sample weights, by default, only the two most different kinds of labels.
CASES = [
    pytest.param(
        engine,
        labels,
        sample_weight,
        id=f"{labels}, {engine}{'' if sample_weight is None else ', sample_weight'}",
        marks=[pytest.mark.slow, keras_2]
        if engine == "tff"
        else pytest.mark.slow
        if sample_weight is not None and labels not in ("numbers", "one-hot positions")
        else (),
    )
    for engine in ("local", "tff")
    for labels in LABELS
    for sample_weight in (None, SAMPLE_WEIGHT)
]


@pytest.mark.parametrize("engine, labels, sample_weight", CASES)
def test_one_client_trains_as_fit_does(engine, labels, sample_weight):
    make, x, y, class_weight = LABELS[labels]
    if engine == "tff":
        class_weight = {label: weight or 0.125 for label, weight in class_weight.items()}
    columns = (
        {"x": x, "y": y}
        if sample_weight is None
        else {"x": x, "y": y, "sample_weight": sample_weight}
    )
    run, expected = trained(make(), columns, class_weight, engine=engine), make()
    expected.run_eagerly = True  # quicker than tracing a small model
    weights = {"sample_weight": sample_weight, "class_weight": class_weight}
    if IS_KERAS_3 and (sample_weight is not None or labels == "one-hot positions"):
        # Keras 3 takes only one of them, and class_weight only for one label per example.
        classes = y.argmax(axis=-1) if labels.startswith("one-hot") else y.reshape([len(y)])
        of_classes = np.vectorize(class_weight.get)(classes).astype(np.float32)
        given = np.ones(len(y), np.float32) if sample_weight is None else sample_weight
        weights = {"sample_weight": (of_classes.T * given).T}
    history = expected.fit(
        x,
        y,
        batch_size=5,
        epochs=2,
        verbose=0,
        shuffle=False,
        **weights,
    ).history
    assert_same(run.model, expected)
    (client,) = run.clients
    assert client["num_examples"] == 2 * (
        10 if sample_weight is None else 9
    )  # a class of weight 0 is no padding
    if sample_weight is None:
        means = {
            f"train_{name}": np.mean(values) for name, values in history.items()
        }  # over the epochs
        assert len(means) == 3 and {name: run.history[1][name] for name in means} == pytest.approx(
            means, rel=1e-5
        )


@pytest.mark.parametrize("ignore", [None, -1])
def test_labels_of_sequences_are_classes_of_positions(ignore):
    """Class weights apply per position.

    Keras would use the position of the largest label as the class of the whole row, so
    the reference gets the intended weights as sample weights.
    """
    labels = (
        POSITIONS
        if ignore is None
        else np.where(RNG.uniform(size=POSITIONS.shape) < 0.3, ignore, POSITIONS)
    )
    by_hand = np.where(labels == -1, 1.0, np.array([0.5, 3.0, 0.0])[labels]).astype(np.float32)

    def make():
        return model(keras.losses.SparseCategoricalCrossentropy(ignore_class=ignore), (4, 3))

    run, expected = trained(make(), {"x": STEPS, "y": labels}, WEIGHTS), make()
    expected.run_eagerly = True  # quicker than tracing a small model
    expected.fit(STEPS, labels, 5, epochs=2, verbose=0, shuffle=False, sample_weight=by_hand)
    assert_same(run.model, expected)
    assert run.clients[0]["num_examples"] == run.clients[0]["num_tokens"] == 20


@pytest.mark.slow
def test_a_model_of_a_fixed_batch_size_and_several_clients():
    clients = fl.ClientData.from_dict(
        {f"c{i}": {"x": X[i : i + 3 + i], "y": CLASSES[i : i + 3 + i]} for i in range(2)}
    )
    free = trained(model(SPARSE), None, WEIGHTS, clients, batch_size=4)
    fixed = trained(model(SPARSE, batch_size=4), None, WEIGHTS, clients, batch_size=4)
    sums = [
        trained(
            model(SPARSE), None, WEIGHTS, clients.select([name]), batch_size=4
        ).model.get_weights()[0]
        for name in clients
    ]
    counts = [clients.num_examples(name) for name in clients]
    np.testing.assert_allclose(
        free.model.get_weights()[0], np.average(sums, axis=0, weights=counts), rtol=1e-5, atol=1e-6
    )
    assert (
        [row["num_examples"] for row in fixed.clients]
        == [row["num_examples"] for row in free.clients]
        == [2 * n for n in counts]
    )


@pytest.mark.slow
def test_evaluation_is_unweighted_and_the_weights_belong_to_the_run(tmp_path):
    data = {"x": X, "y": CLASSES}
    run = trained(
        model(SPARSE), data, WEIGHTS, evaluate_on={"test": data}, run_dir=tmp_path / "run"
    )
    assert run.history[1]["test_loss"] == pytest.approx(
        run.model.evaluate(X, CLASSES, verbose=0)[0], rel=1e-5
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["class_weight"] == {
        "0": 0.5,
        "1": 3.0,
        "2": 0.0,
    }
    with pytest.raises(ValueError, match=re.escape("class_weight.1 is 2.0, was 3.0")):
        trained(
            model(SPARSE),
            data,
            {**WEIGHTS, 1: 2.0},
            evaluate_on={"test": data},
            run_dir=tmp_path / "run",
        )


def two_outputs():
    inputs = keras.Input([3])
    made = keras.Model(
        inputs, {name: layers.Dense(3, "softmax", name=name)(inputs) for name in "ab"}
    )
    made.compile("sgd", SPARSE)
    return made


@pytest.mark.parametrize(
    "make, columns, class_weight, message",
    [
        (
            lambda: model(SPARSE),
            {"x": X, "y": CLASSES},
            [1, 2],
            "class_weight=[1, 2]: expected a dict",
        ),
        (lambda: model(SPARSE), {"x": X, "y": CLASSES}, {}, "class_weight={}: expected a dict"),
        (
            lambda: model(SPARSE),
            {"x": X, "y": CLASSES},
            {"cat": 1},
            "a class in class_weight='cat': expected an integer of at least 0",
        ),
        (
            lambda: model(SPARSE),
            {"x": X, "y": CLASSES},
            {**WEIGHTS, 1: -1},
            "class_weight[1]=-1: expected a number of at least 0",
        ),
        (
            lambda: model(SPARSE),
            {"x": X, "y": CLASSES},
            dict.fromkeys(range(3), 0),
            "expected a weight above 0 for at least one",
        ),
        (
            lambda: model(SPARSE),
            {"x": X, "y": CLASSES},
            {0: 1, 2: 1},
            "class_weight lacks class 1: expected a weight for each of",
        ),
        (
            two_outputs,
            {"x": X, "y/a": CLASSES, "y/b": CLASSES},
            WEIGHTS,
            "expected one output and its labels in column 'y'",
        ),
        (
            lambda: model(ONE_HOT),
            {"x": X, "y": np.ones([10, 3])},
            WEIGHTS,
            "rows add up to 3: expected one class per example",
        ),
        (lambda: model("mse", units=1), {"x": X, "y": X[:, :1]}, TWO, "expected whole numbers"),
        (
            lambda: model("mse", units=1),
            {"x": X, "y": CLASSES},
            TWO,
            "has the label 2: expected a class in class_weight",
        ),
    ],
)
def test_bad_arguments_raise_one_line_errors(make, columns, class_weight, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)) as info:
        trained(make(), columns, class_weight)
    assert "\n" not in str(info.value)


@pytest.mark.slow
@keras_2
def test_class_weights_that_tff_would_count_differently_are_refused():
    for weights, algorithm, message in (
        (WEIGHTS, None, "class_weight[2]=0: expected a number above 0"),
        (
            dict.fromkeys(range(3), 2.0),
            fl.algorithms.fed_avg(client_weighting="num_tokens"),
            "expected 'num_examples' or 'uniform' with engine='tff'",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            trained(
                model(SPARSE), {"x": X, "y": CLASSES}, weights, engine="tff", algorithm=algorithm
            )


def test_sequences_of_different_lengths():
    def of_length(length, seed):
        rng = np.random.default_rng(seed)
        return {
            "x": rng.normal(size=[4, length, 3]).astype(np.float32),
            "y": rng.integers(0, 3, [4, length]),
        }

    def made():
        return model(SPARSE, (None, 3))

    clients = fl.ClientData.from_dict({"a": of_length(2, 0), "b": of_length(5, 1)})
    found = [
        trained(made(), None, WEIGHTS, clients.select([client_id])).model for client_id in clients
    ]
    both = trained(made(), None, WEIGHTS, clients).model
    for average, one, other in zip(both.get_weights(), *(each.get_weights() for each in found)):
        np.testing.assert_allclose(average, (one + other) / 2, rtol=1e-6, atol=1e-6)
