"""Sent140: the files, accounts, words, and synthetic tweets."""

import json
import zipfile

import numpy as np
import pytest

from fedlab.datasets import sent140

TWEETS = [  # polarity, account, text
    (0, "bob", "so sad"),
    (4, "ann", "so so good!"),
    (4, "bob", "good day, good mood"),
    (0, "eve", "hi"),
    (4, "bob", "caf\u00e9"),
    (0, "ann", "bad"),
]


def lines():
    return "".join(
        f'"{polarity}","{i}","Mon Apr 06","NO_QUERY","{account}","{text}"\n'
        for i, (polarity, account, text) in enumerate(TWEETS)
    ).encode("latin-1")


@pytest.mark.parametrize("packed", [True, False])
def test_accounts_are_clients(tmp_path, packed):
    if packed:
        with zipfile.ZipFile(tmp_path / "trainingandtestdata.zip", "w") as archive:
            archive.writestr(sent140._CSV, lines())
            archive.writestr("testdata.manual.2009.06.14.csv", b"")
    else:
        (tmp_path / sent140._CSV).write_bytes(lines())
    train, test = sent140.load(path=tmp_path, min_examples=2, max_words=3, vocabulary=3)
    assert train.client_ids == test.client_ids == ("ann", "bob")  # eve has one tweet
    # Training words: good 3, so 3, then "!", which is before "," "day" "mood" "sad".
    assert train["ann"]["x"].tolist() == [[3, 3, 2]] and train["ann"]["y"].tolist() == [1]
    assert train["bob"]["x"].tolist() == [[3, 1, 0], [2, 1, 1]]
    assert train["bob"]["y"].tolist() == [0, 1]
    assert test["ann"]["x"].tolist() == [[1, 0, 0]] and test["ann"]["y"].tolist() == [0]
    own, _ = sent140.load(path=tmp_path, min_examples=2, max_words=2, vocabulary=["sad"])
    assert own["bob"]["x"].tolist() == [[1, 2], [1, 1]]
    assert train["bob"]["x"].dtype == train["bob"]["y"].dtype == np.int32


def test_the_most_frequent_words(tmp_path):
    (tmp_path / sent140._CSV).write_bytes(lines())
    parts = sent140._by_account(tmp_path / sent140._CSV, lines(), 2)
    assert sent140.most_frequent(parts[0], 4) == ("good", "so", "!", ",")
    assert parts[1]["bob"]["text"].tolist() == ["caf\u00e9"]


def test_leafs_files(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        tweets = [["1", "May 16", "NO_QUERY", "ann", "Lyx is cool"], ["2", "", "", "ann", "cool"]]
        content = {
            "users": ["ann"],
            "num_samples": [2],
            "user_data": {"ann": {"x": tweets, "y": [1, 0]}},
        }
        (tmp_path / part / "data.json").write_text(json.dumps(content))
    train, test = sent140.load("leaf", path=tmp_path, max_words=4)
    # cool, Lyx, is
    assert train["ann"]["x"].tolist() == [[3, 4, 2, 0], [2, 0, 0, 0]]
    assert test["ann"]["y"].tolist() == [1, 0]


@pytest.mark.parametrize(
    "data, message",
    [
        (b'"0","1","date"\n', r"row 1 has 3 values, the first is \['0'\]: expected 0 or 4"),
        (lines() + b'"2","1","d","q","u","t"\n', r"row 7 has 6 values, the first is \['2'\]"),
    ],
)
def test_damaged_files_are_named(tmp_path, data, message):
    (tmp_path / sent140._CSV).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        sent140.load(path=tmp_path)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"min_examples": 1}, ValueError, "min_examples=1: expected an integer of at least 2"),
        ({"min_examples": 4}, ValueError, "min_examples=4: expected at most 3, the tweets of the"),
        ({"vocabulary": 0}, ValueError, "vocabulary=0"),
        ({"vocabulary": "words"}, ValueError, "expected a sequence of one or more words"),
        ({"source": "leaf"}, FileNotFoundError, "but there is no train"),
    ],
)
def test_mistakes(tmp_path, options, error, message):
    (tmp_path / sent140._CSV).write_bytes(lines())
    with pytest.raises(error, match=message):
        sent140.load(path=tmp_path, **{"min_examples": 2, **options})


def test_synthetic_tweets_can_be_learned():
    train, test = sent140.synthetic(num_clients=40)
    size = len(sent140.SYNTHETIC_WORDS) + 2
    assert train.to_arrays()["x"].max() == size - 1

    def bags(clients):
        columns = clients.to_arrays()
        return np.stack([np.bincount(row, minlength=size) for row in columns["x"]]), columns["y"]

    x, y = bags(train)
    w = np.linalg.lstsq(x, 2.0 * y - 1, rcond=None)[0]
    x, y = bags(test)
    assert ((x @ w > 0) == y).mean() > 0.95
    shares = [train[client_id]["y"].mean() for client_id in train]
    assert np.std(shares) > 0.1  # clients differ in their labels
