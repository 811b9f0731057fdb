"""Trains the same model by `fl.simulate` with one client, and by `fit`; for Keras 3."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.clients import seeding
from tests.stacks import IS_KERAS_3

if IS_KERAS_3:
    from fedlab.learner.keras3 import seeds

layers = keras.layers
ROWS, STEPS = 12, 3


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=[ROWS, *shape]).astype(np.float32)


def classes(*shape, seed=1):
    return np.random.default_rng(seed).integers(3, size=[ROWS, *shape])


def padded_ids(length=6):
    rng = np.random.default_rng(2)
    ids = rng.integers(1, 9, size=[ROWS, length])
    return (ids * (np.arange(length) < rng.integers(1, length + 1, size=[ROWS, 1]))).astype("int32")


def compiled(model, optimizer=None, **options):
    options.setdefault("loss", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.compile(optimizer or keras.optimizers.SGD(0.1), **options)
    return model


def sequential(*parts, **options):
    keras.utils.set_random_seed(4)
    return compiled(keras.Sequential(parts), **options)


def functional(inputs, outputs, **options):
    return compiled(keras.Model(inputs, outputs), **options)


def fitted(model, columns, batch_size=ROWS // STEPS, client_seed=None):
    """The model after `fit`, and what `fit` logs."""
    if client_seed is not None:
        states = seeds.generators(model)
        for state, start in zip(states, seeds.starts(len(states), tf.constant(client_seed))):
            state.assign(start)
    x = columns.get("x")
    if x is None:
        named = {"y", "sample_weight"}
        x = {k: v for k, v in columns.items() if k not in named and not k.startswith("y/")}
    elif x.dtype == object:
        x = tf.constant(x)
    y = columns.get("y")
    if y is None:
        y = {k[2:]: v for k, v in columns.items() if k.startswith("y/")}
    options = {"sample_weight": columns.get("sample_weight"), "batch_size": batch_size}
    history = model.fit(x, y, shuffle=False, verbose=0, **options).history
    return model, {name: values[0] for name, values in history.items()}


def assert_equals_fit(
    make, columns, batch_size=ROWS // STEPS, from_function=False, tolerance=1e-6, eagerly=True
):
    """Trains a model by `simulate` and by `fit`, from the same weights; returns the run.

    `fit` runs eagerly, which is faster for a few steps, or as the model is compiled.
    """
    model = make()
    clients = fl.ClientData.from_dict({"only": columns})
    run = fl.simulate(
        make if from_function else model,
        clients,
        rounds=1,
        clients_per_round=1,
        batch_size=batch_size,
        shuffle=False,
        seed=7,
        num_workers=1,
        progress=False,
    )
    reference = make()
    if eagerly:
        reference.run_eagerly = True
    reference.set_weights(model.get_weights())
    client_seed = seeding.generator(7, "dropout", 1, "only").integers(2**63)
    reference, logs = fitted(reference, columns, batch_size, int(client_seed))
    changes = []
    for weight, ours, before in zip(
        reference.weights, run.model.get_weights(), model.get_weights()
    ):
        expected = weight.numpy().astype(np.float64)
        largest = max(np.abs(expected).max(initial=0), 1e-3)
        assert np.abs(ours - expected).max(initial=0) <= tolerance * max(largest, 1), weight.path
        changes.append(np.abs(expected - before).max(initial=0))
    assert max(changes) > 1e-4  # it has trained
    trained = {
        name.removeprefix("train_"): value
        for name, value in run.history[-1].items()
        if name.startswith("train_")
    }
    assert trained == pytest.approx(logs, rel=1e-5, abs=1e-6)
    return run


def dense(**options):
    return sequential(
        keras.Input([4]), layers.Dense(5, activation="tanh"), layers.Dense(3), **options
    )
