"""Preprocessing layers learn from training clients only, and are applied to all data."""

import doctest
import importlib

import numpy as np
import pytest

import fedlab as fl
from fedlab import ClientData
from fedlab.cli._ending import MISTAKES
from fedlab.data import preprocess
from tests.bad_input.telling import check_line

keras = pytest.importorskip("tensorflow").keras
L = keras.layers


def clients(**columns_of):
    return ClientData.from_dict(columns_of)


def people():
    train = clients(
        ann={"age": [1.0, 3.0], "city": ["oslo", "rome"], "y": ["no", "yes"]},
        bob={"age": [5.0], "city": ["oslo"], "y": ["yes"]},
        cat={"age": [7.0, 9.0, 11.0], "city": ["oslo", "oslo", "rome"], "y": ["no"] * 3},
    )
    test = clients(eve={"age": [1000.0, 6.0], "city": ["bonn", "rome"], "y": ["no", "yes"]})
    return train, test


def test_numbers_are_normalized_by_the_statistics_of_training_clients():
    # Mean 6 and variance 35 / 3 over the six training examples, whatever client has them.
    train, test = preprocess(*people(), layers={"age": L.Normalization()})
    deviation = np.sqrt(35 / 3)
    np.testing.assert_allclose(train["ann"]["age"], np.array([-5, -3]) / deviation, rtol=1e-5)
    np.testing.assert_allclose(train["cat"]["age"], np.array([1, 3, 5]) / deviation, rtol=1e-5)
    np.testing.assert_allclose(test["eve"]["age"], np.array([994, 0]) / deviation, rtol=1e-5)
    assert test["eve"]["age"].shape == (2,) and test["eve"]["age"].dtype == np.float32
    assert test["eve"]["city"].tolist() == ["bonn", "rome"]  # as it was


def test_columns_of_several_features_have_a_mean_each():
    rng = np.random.default_rng(0)
    x = {name: rng.normal(3, 2, [n, 4]).astype(np.float32) for name, n in (("a", 5), ("b", 90))}
    train = ClientData.from_dict({name: {"x": rows} for name, rows in x.items()})
    (made,) = preprocess(train, layers={"x": L.Normalization()})
    rows = np.concatenate(list(x.values()))
    expected = (x["b"] - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(made["b"]["x"], expected, rtol=1e-4, atol=1e-5)


def test_categories_are_numbered_by_how_often_training_clients_have_them():
    layers = {
        "city": L.StringLookup(),
        "y": L.StringLookup(num_oov_indices=0, vocabulary=["no", "yes"]),
    }
    train, test = preprocess(*people(), layers=layers)
    # 0 is a city that no training client has, 1 the most frequent one.
    assert train["ann"]["city"].tolist() == [1, 2] and test["eve"]["city"].tolist() == [0, 2]
    assert list(layers["city"].get_vocabulary()) == ["[UNK]", "oslo", "rome"]
    assert test["eve"]["y"].tolist() == [0, 1]


def test_into_one_input():
    layers = {"age": L.Rescaling(0.5), "city": L.StringLookup(output_mode="one_hot")}
    train, test = preprocess(*people(), layers=layers, into="x")
    assert list(train["ann"]) == ["x", "y"]
    assert train["ann"]["x"].tolist() == [[0.5, 0.0, 1.0, 0.0], [1.5, 0.0, 0.0, 1.0]]
    assert train["bob"]["x"].tolist() == [[2.5, 0.0, 1.0, 0.0]]  # one example is a row as well
    assert test["eve"]["x"].tolist() == [[500.0, 1.0, 0.0, 0.0], [3.0, 0.0, 0.0, 1.0]]
    assert train["ann"]["x"].dtype == np.float32
    assert train["ann"]["y"].tolist() == ["no", "yes"]


def test_texts_become_the_numbers_of_words():
    train = clients(ann={"x": ["to be or not to be"]}, bob={"x": ["to do", "to be"]})
    test = clients(eve={"x": ["Not to see!"]})
    layer = L.TextVectorization(output_sequence_length=4)
    train, test = preprocess(train, test, layers={"x": layer})
    words = list(layer.get_vocabulary())
    assert words[:4] == ["", "[UNK]", "to", "be"] and set(words[4:]) == {"or", "not", "do"}
    assert train["bob"]["x"].tolist() == [[2, words.index("do"), 0, 0], [2, 3, 0, 0]]
    assert test["eve"]["x"].tolist() == [[words.index("not"), 2, 1, 0]]


def test_integers_and_functions_and_none():
    train = clients(a={"id": [70, 70, 80], "n": [1, 2, 3]}, b={"id": [80, 70], "n": [4, 5]})
    layers = {"id": L.IntegerLookup(), "n": lambda n: n * 10}
    (made,) = preprocess(train, layers=layers)
    assert made["a"]["id"].tolist() == [1, 1, 2] and made["b"]["n"].tolist() == [40, 50]
    (made,) = preprocess(train, layers={"n": None, "id": L.Rescaling(0.1)}, into="x")
    np.testing.assert_allclose(made["b"]["x"], [[4, 8], [5, 7]], rtol=1e-6)


def test_a_layer_adapts_without_all_clients_in_memory():
    def load(client_id):
        loaded.append(client_id)
        return {"x": np.full([1000, 10], float(client_id))}

    loaded = []
    train = ClientData([str(i) for i in range(300)], load, cache_bytes=0)
    layer = L.Normalization()
    preprocess(train, layers={"x": layer})
    assert set(loaded) == set(train.client_ids)
    np.testing.assert_allclose(np.ravel(layer.mean), [149.5] * 10, rtol=1e-5)


def test_held_out_clients_are_read_only_when_used():
    train, _ = people()
    test = ClientData(["eve"], lambda client_id: 1 / 0)
    train, test = preprocess(train, test, layers={"age": L.Normalization()})
    assert train["bob"]["age"].shape == (1,)


def test_a_run_with_preprocessed_clients():
    train, test = people()
    layers = {
        "age": L.Normalization(),
        "city": L.StringLookup(output_mode="one_hot"),
        "y": L.StringLookup(num_oov_indices=0, vocabulary=["no", "yes"]),
    }
    train, test = preprocess(train, test, layers=layers, into="x")
    model = keras.Sequential([keras.Input([4]), L.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    run = fl.simulate(model, train, rounds=2, clients_per_round=3, evaluate_on=test, progress=False)
    assert np.isfinite(run.history[-1]["test_loss"])


BAD = {
    "train a dict": (lambda: preprocess({}, layers={"x": None}), "dict"),
    "others a dict": (lambda: preprocess(people()[0], {}, layers={"age": None}), "others[0]"),
    "no layers": (lambda: preprocess(*people(), layers={}), "layers"),
    "a layer": (lambda: preprocess(*people(), layers=L.Normalization()), "Normalization"),
    "misspelt": (lambda: preprocess(*people(), layers={"aeg": None}), "such as 'age'"),
    "a class": (lambda: preprocess(*people(), layers={"age": L.Normalization}), "Normalization"),
    "a number": (lambda: preprocess(*people(), layers={"age": 5}), "int 5"),
    "into y": (lambda: preprocess(*people(), layers={"age": None}, into="y"), "into='y'"),
    "numbers of texts": (
        lambda: preprocess(*people(), layers={"city": L.Normalization()}),
        "layers['city']=Normalization",
    ),
    "into of texts": (
        lambda: preprocess(*people(), layers={"city": None}, into="x")[0]["ann"],
        "layers['city']",
    ),
    "into a column": (
        lambda: preprocess(*people(), layers={"age": None}, into="city")[0]["ann"],
        "into='city'",
    ),
    "other rows": (
        lambda: preprocess(*people(), layers={"age": lambda age: age[:1]})[0]["ann"],
        "returned the shape [1] for 2 examples",
    ),
    "unknown class": (
        lambda: preprocess(
            *people(), layers={"city": L.StringLookup(num_oov_indices=0, vocabulary=["oslo"])}
        )[1]["eve"],
        "client 'eve'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, received = BAD[name]
    with pytest.raises(MISTAKES) as raised:
        call()
    check_line(str(raised.value), received)


def test_the_example_runs():
    assert not doctest.testmod(importlib.import_module("fedlab.data.preprocessing")).failed
