"""Layers fitted by `adapt()` are constants of a simulation, and train as in Keras."""

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.learner import clone, non_trainable_weights
from tests import quick
from tests.stacks import IS_KERAS_3

keras = tf.keras
layers = keras.layers

WORDS = np.array(["red", "green", "blue", "red", "red", "green"])
NUMBERS = np.array([3, 9, 4, 3, 3, 9], np.int64)
RNG = np.random.default_rng(0)
FLOATS = RNG.normal(size=6).astype(np.float32)
Y = RNG.normal(size=[6, 1]).astype(np.float32)


def adapted(layer, data):
    layer.adapt(data)
    return layer


# name -> (the layer, the column it reads)
LAYERS = {
    "StringLookup": (lambda: adapted(layers.StringLookup(output_mode="one_hot"), WORDS), WORDS),
    "StringLookup, two unknown": (
        lambda: adapted(
            layers.StringLookup(num_oov_indices=2, mask_token="", output_mode="multi_hot"),
            WORDS[:2],
        ),
        WORDS,
    ),
    "IntegerLookup, tf-idf": (
        lambda: adapted(layers.IntegerLookup(output_mode="tf_idf", max_tokens=6), NUMBERS[:, None]),
        NUMBERS,
    ),
    "Discretization": (lambda: adapted(layers.Discretization(num_bins=3), FLOATS), FLOATS),
    "Normalization": (lambda: adapted(layers.Normalization(axis=None), FLOATS), FLOATS),
    "Hashing": (
        lambda: layers.Hashing(4, salt=3, output_mode="one_hot"),
        WORDS,
    ),
}


def new_model(layer, column):
    keras.utils.set_random_seed(0)
    dtype = "string" if column.dtype.kind == "U" else column.dtype.name
    model = keras.Sequential([keras.Input([1], dtype=dtype), layer, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def text_model():
    keras.utils.set_random_seed(0)
    texts = ["a red fox", "the red red hen"]
    vectorization = adapted(layers.TextVectorization(output_sequence_length=3), texts)
    inside = keras.Sequential([keras.Input([], dtype="string"), vectorization], name="inside")
    parts = [inside, layers.Embedding(9, 4), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    model = keras.Sequential([keras.Input([], dtype="string"), *parts])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def assert_one_round_is_a_fit(make, x, tmp_path, per_client=False):
    """Training, central and per-client evaluation, and the saved model."""
    columns = {"x": x, "y": Y}
    clients = fl.ClientData.from_dict({"one": columns})
    sets = {"all": clients, **({"each": fl.per_client(clients)} if per_client else {})}
    options = dict(rounds=1, clients_per_round=1, batch_size=6, num_workers=1, progress=False)
    given = make()
    before = given.get_weights()
    run = fl.simulate(given, clients, evaluate_on=sets, run_dir=tmp_path / "run", **options)
    plain = make()
    plain.run_eagerly = True  # quicker than tracing a small model
    if x.dtype.kind in "OSU":
        x = tf.constant(x)  # Keras 3 takes no text in NumPy arrays
    first = plain.evaluate(x, Y, verbose=0)
    plain.fit(x, Y, batch_size=6, verbose=0)
    for model in (run.model, fl.models.load(tmp_path / "run" / "model.keras")):
        model.run_eagerly = True
        for ours, theirs in zip(model.trainable_weights, plain.trainable_weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            model.predict(x, verbose=0), plain.predict(x, verbose=0), rtol=1e-5
        )
    names = "all_loss", "all_mae"
    np.testing.assert_allclose([run.history[0][name] for name in names], first, rtol=1e-5)
    last = plain.evaluate(x, Y, verbose=0)
    np.testing.assert_allclose([run.history[1][name] for name in names], last, rtol=1e-5)
    if per_client:
        each = {row["metric"]: row["value"] for row in run.evaluations if row["round"] == 1}
        np.testing.assert_allclose([each["loss"], each["mae"]], last, rtol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(before, given.get_weights()))
    return run


# Variants of the layers before them in the table, and Discretization, whose bins
# test_a_copy_has_the_bins_that_decide_a_shape checks.
SLOW = ("StringLookup, two unknown", "IntegerLookup, tf-idf", "Discretization", "Hashing")


@pytest.mark.parametrize("name", quick.all_but(SLOW, LAYERS))
def test_one_round_of_one_client_is_a_fit(name, tmp_path):
    make, column = LAYERS[name]
    assert_one_round_is_a_fit(lambda: new_model(make(), column), column[:, None], tmp_path)


@pytest.mark.slow
def test_texts_are_vectorized_in_the_model(tmp_path):
    x = np.array(["a red fox", "red hen", "a hen", "unknown", "", "the the the"])
    run = assert_one_round_is_a_fit(text_model, x, tmp_path, per_client=True)
    vectorization = run.model.get_layer("inside").layers[-1]
    assert vectorization.get_vocabulary() == ["", "[UNK]", "red", "the", "hen", "fox", "a"]
    # What is sent is what is trained: 9 x 4 + 4 + 1 numbers.
    assert [run.history[1][name] for name in ("bytes_down", "bytes_up")] == [4 * 41, 4 * 41]


@pytest.mark.slow
def test_resuming_with_another_vocabulary_is_refused(tmp_path):
    def simulate(words):
        model = new_model(adapted(layers.StringLookup(output_mode="one_hot"), words), WORDS)
        clients = fl.ClientData.from_dict({"one": {"x": WORDS[:, None], "y": Y}})
        options = dict(rounds=1, clients_per_round=1, progress=False)
        fl.simulate(model, clients, run_dir=tmp_path / "run", **options)

    simulate(["red", "green", "blue"])
    with pytest.raises(ValueError, match="holds a run of other settings"):
        simulate(["red", "green", "grey"])


def test_a_function_that_builds_the_model_gets_the_constants():
    def make(numbers=(4, 7, 7)):
        lookup = layers.IntegerLookup(output_mode="tf_idf", max_tokens=6, pad_to_max_tokens=True)
        return new_model(adapted(lookup, np.array(numbers)[:, None]), NUMBERS)

    model = make(NUMBERS)
    copy = clone(model, make)
    ours, theirs = copy.layers[0], model.layers[0]
    assert ours.get_vocabulary() == theirs.get_vocabulary()
    np.testing.assert_array_equal(ours.idf_weights, theirs.idf_weights)
    np.testing.assert_allclose(copy(NUMBERS[:, None]), model(NUMBERS[:, None]))
    # The number of documents, which is no weight in Keras 3; neither the vocabulary nor the
    # inverse document frequencies.
    shapes = [tuple(w.shape) for w in non_trainable_weights(model)]
    assert shapes == ([] if IS_KERAS_3 else [()])


def test_a_copy_has_the_bins_that_decide_a_shape():
    # Not saved here: Keras itself cannot load such a model.
    model = new_model(
        adapted(layers.Discretization(num_bins=3, output_mode="one_hot"), FLOATS), FLOATS
    )
    np.testing.assert_allclose(clone(model)(FLOATS[:, None]), model(FLOATS[:, None]))


def test_tff_refuses_tables():
    pytest.importorskip("tensorflow_federated")
    model = new_model(LAYERS["StringLookup"][0](), WORDS)
    clients = fl.ClientData.from_dict({"one": {"x": WORDS[:, None], "y": Y}})
    with pytest.raises(
        ValueError,
        match="engine='tff' with layer 'string_lookup.*: expected no layer with a vocabulary",
    ):
        options = dict(rounds=1, clients_per_round=1, progress=False)
        fl.simulate(model, clients, engine="tff", non_trainable="broadcast", **options)
