"""What a model is compiled with has the effect that it has in `fit`."""

import contextlib

import keras
import numpy as np
import pytest

import fedlab as fl
from tests.learner.keras3.fitting import (
    ROWS,
    assert_equals_fit,
    classes,
    compiled,
    dense,
    floats,
    functional,
    padded_ids,
    sequential,
)
from tests.stacks import IS_KERAS_3, keras_3

pytestmark = keras_3
layers = keras.layers


@contextlib.contextmanager
def policy(name):
    """Keras's global policy is this one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def mixed(name="mixed_bfloat16", **options):
    with policy(name):
        return sequential(
            keras.Input([4]),
            layers.Dense(5, activation="tanh"),
            layers.Dense(3, dtype="float32"),
            **options,
        )


def precisions_of_layers():
    """A policy of their own for some layers."""
    return sequential(
        keras.Input([4]),
        layers.Dense(5, dtype="mixed_bfloat16"),
        layers.LayerNormalization(),
        layers.Dense(5, dtype="mixed_float16"),
        layers.Dense(4, dtype="float64"),
        layers.Dense(3),
    )


PRECISIONS = {
    "mixed_bfloat16": mixed,
    # Without loss scaling, which fedlab does not support.
    "mixed_float16": lambda: mixed("mixed_float16", auto_scale_loss=False),
    "of layers": precisions_of_layers,
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_precision(name):
    # 16 bits round in another order, and eagerly in yet another.
    columns = {"x": floats(4), "y": classes()}
    assert_equals_fit(PRECISIONS[name], columns, tolerance=1e-5, eagerly=False)


def test_loss_scaling_is_refused():
    clients = fl.ClientData.from_dict({"only": {"x": floats(4), "y": classes()}})
    with pytest.raises(ValueError, match="LossScaleOptimizer of SGD.*mixed_bfloat16"):
        fl.simulate(mixed("mixed_float16"), clients, rounds=1, clients_per_round=1, progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        {"jit_compile": False},
        {"jit_compile": "auto"},
        {"run_eagerly": True},
        {"steps_per_execution": 2},
        {"auto_scale_loss": False},
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_how_steps_run(options):
    assert_equals_fit(lambda: dense(**options), {"x": floats(4), "y": classes()}, eagerly=False)


def own_loss(y_true, y_pred):
    return keras.ops.mean((keras.ops.one_hot(y_true, 3) - y_pred) ** 2, axis=-1)


LOSSES = {
    "name": "sparse_categorical_crossentropy",
    "function": own_loss,
    "list": [keras.losses.SparseCategoricalCrossentropy(from_logits=True)],
    "sum": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
    "mean with weights": keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **({"reduction": "mean_with_sample_weight"} if IS_KERAS_3 else {})
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    def make():
        return sequential(
            keras.Input([4]),
            layers.Dense(3, activation="softmax"),
            loss=LOSSES[name],
            loss_weights=[0.5] if name == "list" else None,
            metrics=["accuracy"],
        )

    weights = np.linspace(0.1, 2, ROWS, dtype="float32")
    assert_equals_fit(make, {"x": floats(4), "y": classes(), "sample_weight": weights})


def two_outputs():
    keras.utils.set_random_seed(4)
    a, b = keras.Input([4], name="a"), keras.Input([6], dtype="int32", name="b")
    shared, embedding = layers.Dense(4, activation="tanh"), layers.Embedding(9, 4)
    pooled = layers.GlobalAveragePooling1D()(embedding(b)) + embedding(b)[:, 0]
    hidden = layers.Concatenate()([shared(a), shared(pooled)])
    outputs = {
        "kind": layers.Dense(3, name="kind")(hidden),
        "size": layers.Dense(1, name="size")(hidden),
    }
    return functional(
        {"a": a, "b": b},
        outputs,
        loss={"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"},
        loss_weights={"kind": 1.0, "size": 0.3},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
        weighted_metrics={"size": ["mse"]},
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_several_inputs_and_outputs(weighted):
    columns = {"a": floats(4), "b": padded_ids(), "y/kind": classes(), "y/size": floats(1)}
    if weighted:
        columns["sample_weight"] = np.linspace(0.1, 2, ROWS, dtype="float32")
    run = assert_equals_fit(two_outputs, columns)
    names = [name.removeprefix("train_") for name in run.history[-1] if name.startswith("train_")]
    assert names == ["loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae", "size_mse"]


def listed_outputs():
    """Losses and weights as lists, by the position of the output."""
    keras.utils.set_random_seed(4)
    x = keras.Input([4])
    hidden = layers.Dense(4, activation="tanh")(x)
    heads = layers.Dense(1, name="first"), layers.Dense(2, name="second")
    return functional(
        x,
        [head(hidden) for head in heads],
        loss=["mse", own_distance],
        loss_weights=[0.3, 1.5],
        metrics=[["mae"], ["mse"]],
    )


def own_distance(y_true, y_pred):
    return keras.ops.max(keras.ops.abs(y_true - y_pred), axis=-1)


def test_outputs_in_a_list():
    columns = {"x": floats(4), "y/first": floats(1, seed=2), "y/second": floats(2, seed=3)}
    assert_equals_fit(listed_outputs, columns)


def test_inputs_as_targets():
    def make():
        return sequential(keras.Input([4]), layers.Dense(4), loss="mse", metrics=["mae"])

    assert_equals_fit(make, {"x": floats(4), "y": floats(4)})


class Distance(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(keras.ops.abs(y_pred - y) * keras.ops.sum(x))


def test_columns_of_float64():
    """Keras rounds them to float32, also for a loss of the model's own."""

    def make():
        keras.utils.set_random_seed(4)
        x = keras.Input([4])
        model = Distance(x, layers.Dense(2)(x))
        return compiled(model, loss="mse", metrics=["mae"])

    assert_equals_fit(make, {"x": floats(4).astype(float), "y": floats(2).astype(float) / 3})


def test_weights_of_rows_apply_to_all_positions():
    """As in Keras 2. Keras 3 needs weights [rows, 1], and mixes up rows and positions of [rows]."""

    def make():
        keras.utils.set_random_seed(4)  # layers draw their seeds when they are made
        metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        return sequential(keras.Input([4, 2]), layers.Dense(3), weighted_metrics=metrics)

    weights = np.linspace(0.1, 2, ROWS, dtype="float32")
    columns = {"x": floats(4, 2), "y": classes(4)}
    expected = assert_equals_fit(make, {**columns, "sample_weight": weights[:, None]})
    clients = fl.ClientData.from_dict({"only": {**columns, "sample_weight": weights}})
    options = {"clients_per_round": 1, "batch_size": 4, "shuffle": False, "progress": False}
    run = fl.simulate(make(), clients, rounds=1, seed=7, **options)
    for ours, theirs in zip(run.model.get_weights(), expected.model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    assert run.history[-1]["train_accuracy"] == expected.history[-1]["train_accuracy"]
