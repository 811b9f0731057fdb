"""Targets and inputs of every kind train as in plain Keras, or are refused at the start."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl

keras = tf.keras
RNG = np.random.default_rng(0)
X = RNG.normal(size=[12, 3]).astype(np.float32)
NEGATIVE = RNG.integers(-6, 6, [12, 1])
NEGATIVE[0] = -6


def dense(loss, units=1, layers=()):
    made = keras.Sequential([keras.Input([3]), *layers, keras.layers.Dense(units)])
    made.compile(keras.optimizers.SGD(0.05), loss)
    for i, weight in enumerate(made.weights):
        weight.assign(np.random.default_rng(i).normal(size=weight.shape))
    return made


def train(model, clients, **options):
    options = {"batch_size": 5, "shuffle": False, "num_workers": 1, "progress": False, **options}
    return fl.simulate(model, clients, rounds=1, cohort=[*clients], **options)


def assert_trains_as_keras(make, x, y, clients):
    expected = make()
    expected.run_eagerly = True  # quicker than tracing a small model
    expected.fit(x, y, batch_size=5, shuffle=False, verbose=0)
    run = train(make(), clients, evaluate_on=clients, evaluation_batch_size=5)
    for ours, theirs in zip(run.model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        run.history[-1]["test_loss"],
        expected.evaluate(x, y, 5, verbose=0, return_dict=True)["loss"],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "loss, y",
    [
        ("mse", NEGATIVE),
        ("mae", NEGATIVE),
        ("huber", NEGATIVE),
        ("hinge", np.sign(NEGATIVE + 0.5).astype(int)),
    ],
)
def test_negative_integers_are_targets_like_others(loss, y):
    assert_trains_as_keras(
        lambda: dense(loss), X, y, fl.ClientData.from_dict({"a": {"x": X, "y": y}})
    )


@pytest.mark.parametrize("first", [0, -1])
def test_negative_classes_are_refused_whichever_client_has_them(first):
    data = {
        "a": {"x": X[:2], "y": np.array([first, 1])},
        "b": {"x": X[:2], "y": np.array([-1 - first, 1])},
    }
    with pytest.raises(ValueError, match="label -1"):
        train(
            dense(keras.losses.SparseCategoricalCrossentropy(from_logits=True), 3),
            fl.ClientData.from_dict(data),
        )


def test_inputs_as_targets():
    clients = fl.ClientData.from_dict({"a": {"x": X}})
    with pytest.raises(ValueError, match=r"with_targets\('x'\)"):
        train(dense("mse", 3), clients)
    assert_trains_as_keras(lambda: dense("mse", 3), X, X, clients.with_targets("x"))


def test_inputs_as_targets_of_several_outputs():
    def make():
        inputs = {"a": keras.Input([3], name="a"), "b": keras.Input([3], name="b")}
        outputs = {
            "left": keras.layers.Dense(3, name="left")(inputs["a"]),
            "right": keras.layers.Dense(3, name="right")(inputs["b"]),
        }
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.05), {"left": "mse", "right": "mae"})
        for i, weight in enumerate(model.weights):
            weight.assign(np.random.default_rng(i).normal(size=weight.shape))
        return model

    clients = fl.ClientData.from_dict({"a": {"a": X, "b": 2 * X, "y": X[:, 0]}}).with_targets(
        {"left": "b", "right": "a"}
    )
    assert list(clients["a"]) == ["a", "b", "y/left", "y/right"]
    assert_trains_as_keras(make, {"a": X, "b": 2 * X}, {"left": 2 * X, "right": X}, clients)


def test_targets_that_are_no_column():
    clients = fl.ClientData.from_dict({"a": {"x": X}})
    with pytest.raises(ValueError, match=r"'z'.*\['x'\]"):
        train(dense("mse"), clients.with_targets("z"))
    for wrong in (3, {}, {"out": 1}, ["x"]):
        with pytest.raises(TypeError, match="expected the name of a column"):
            clients.with_targets(wrong)


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_texts_as_targets_are_refused(name):
    columns = {"x": X, "y": X[:, 0]}
    wrong = fl.ClientData.from_dict({"a": {**columns, name: ["cat", "dog"] * 6}})
    with pytest.raises(ValueError, match=f"column '{name}' with the text 'cat': expected numbers"):
        train(dense("mse"), wrong)
    with pytest.raises(ValueError, match=f"column '{name}' with the text 'cat': expected numbers"):
        train(dense("mse"), fl.ClientData.from_dict({"a": columns}), evaluate_on=wrong)


def test_several_inputs_of_which_one_is_called_x():
    def make():
        x, mask = keras.Input([3], name="x"), keras.Input([3], name="mask")
        model = keras.Model([x, mask], keras.layers.Dense(1, kernel_initializer="ones")(x * mask))
        model.compile(keras.optimizers.SGD(0.05), "mse")
        return model

    inputs, y = {"x": X, "mask": X[::-1] ** 2}, X[:, :1]
    clients = fl.ClientData.from_dict({"a": {**inputs, "note": np.zeros(12), "y": y}})
    assert_trains_as_keras(make, inputs, y, clients)
    model = make()
    expected = model.evaluate(inputs, y, 5, verbose=0)
    assert (
        model.evaluate(
            clients.to_dataset(5, input_names=[tensor.name for tensor in model.inputs]), verbose=0
        )
        == expected
    )
    with pytest.raises(ValueError, match="'mask' is missing"):
        train(make(), fl.ClientData.from_dict({"a": {"x": X, "y": y}}))
