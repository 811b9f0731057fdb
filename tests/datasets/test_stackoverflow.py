"""Stack Overflow: the files, next words and tags as TFF makes them, and limits."""

import io
import json
import tarfile

import numpy as np
import pytest

from fedlab.datasets import _vocabulary, stackoverflow
from tests.datasets.tff_files import write_hdf5

WORDS = ("the", ".", "to", "sql", "<URL>")
TAGS = {"sql": 5, "css": 9, "git": 7}
USERS = {
    "0001": {
        "tokens": [b"the sql to the", b"css ."],
        "title": [b"sql sql", b""],
        "tags": [b"sql|median", b"css|git"],
        "score": [1, 2],
    },
    "0002": {"tokens": [b"to"], "title": [b"x"], "tags": [b""], "score": [0]},
}


def users():
    return {
        user: {k: np.array(v, int if k == "score" else object) for k, v in columns.items()}
        for user, columns in USERS.items()
    }


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test", "held_out"):
        write_hdf5(tmp_path / f"stackoverflow_{part}.h5", users())
    counts = "".join(f"{word} {1000 - i}\n" for i, word in enumerate(WORDS))
    (tmp_path / "stackoverflow.word_count").write_text(counts)
    with tarfile.open(tmp_path / "stackoverflow.tag_count.tar.bz2", "w:bz2") as tar:
        data = json.dumps(TAGS).encode()
        info = tarfile.TarInfo("stackoverflow.tag_count")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return tmp_path


def test_next_words(folder):
    train, test = stackoverflow.load(path=folder, vocabulary_size=4, sequence_length=4)
    # the 1, . 2, to 3, sql 4; other 5, begin 6, end 7
    columns = train["0001"]
    assert columns["x"].tolist() == [[6, 1, 4, 3], [6, 5, 2, 0]]
    assert columns["y"].tolist() == [[1, 4, 3, 1], [5, 2, 7, -1]]
    assert columns["sample_weight"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert test["0002"]["y"].tolist() == [[3, 7, -1, -1]]
    assert {name: column.dtype.name for name, column in columns.items()} == {
        "x": "int32",
        "y": "int32",
        "sample_weight": "float32",
    }


def test_tags(folder):
    _, heldout = stackoverflow.load(
        path=folder, task="tags", test="heldout", vocabulary_size=4, num_tags=2
    )
    # the . to sql; "the sql to the" + "sql sql": 2, 0, 1, 3 of 6
    x, y = heldout["0001"]["x"], heldout["0001"]["y"]
    np.testing.assert_allclose(x, [[2 / 6, 0, 1 / 6, 3 / 6], [0, 1, 0, 0]], rtol=1e-6)
    # The two most frequent tags: css, git.
    assert y.tolist() == [[0, 0], [1, 1]] and y.dtype == np.float32
    assert heldout["0002"]["y"].tolist() == [[0, 0]]


def test_tff_makes_the_same_ids():
    tff = pytest.importorskip("tensorflow_federated")
    import tensorflow as tf
    from tensorflow_federated.python.simulation.baselines import stackoverflow as theirs

    text = [b"the sql to the", b"css .", b"", b"a b c d e f"]
    rows = tf.data.Dataset.from_tensor_slices(
        {"tokens": text, "title": [b"sql to"] * 4, "tags": [b"sql|css", b"git", b"", b"css"]}
    )
    spec = tff.simulation.baselines.ClientSpec(1, 4, shuffle_buffer_size=1)
    make = theirs.word_prediction_preprocessing.create_preprocess_fn
    x, y = next(iter(make(spec, list(WORDS), sequence_length=5)(rows)))
    columns = {"tokens": np.array(text, object)}
    ours = stackoverflow.preprocess(columns, "next_word", WORDS, sequence_length=5)
    real = ours["sample_weight"] == 1
    np.testing.assert_array_equal(ours["y"][real], y.numpy()[real])
    assert not y.numpy()[~real].any()  # TFF's label of padding
    np.testing.assert_array_equal(ours["x"][real], x.numpy()[real])
    make = theirs.tag_prediction_preprocessing.create_preprocess_fn
    x, y = next(iter(make(spec, list(WORDS), ["css", "sql"])(rows)))
    columns |= {"title": np.array([b"sql to"] * 4, object)}
    columns |= {"tags": np.array([b"sql|css", b"git", b"", b"css"], object)}
    ours = stackoverflow.preprocess(columns, "tags", WORDS, ["css", "sql"])
    np.testing.assert_allclose(ours["x"], x, rtol=1e-6)
    np.testing.assert_array_equal(ours["y"], y)


def test_users_with_many_sentences_are_limited(folder):
    options = dict(path=folder, vocabulary_size=4, max_examples=1)
    train, _ = stackoverflow.load(**options)
    assert [len(train[user]["y"]) for user in train] == [1, 1]
    rows = {stackoverflow.load(**options, seed=s)[0]["0001"]["x"][0, 1] for s in range(20)}
    assert rows == {1, 5}  # each sentence is kept by some seed
    again, _ = stackoverflow.load(**options)
    assert again.fingerprint() == train.fingerprint()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"task": "words"}, "task='words': expected one of next_word, tags"),
        ({"test": "train"}, "test='train': expected 'test' or 'heldout'"),
        ({"vocabulary_size": 6}, "expected 6 or more lines of a word and a number"),
        ({"task": "tags", "num_tags": 4, "vocabulary_size": 4}, "at least num_tags=4 tags"),
        ({"vocabulary_size": 0}, "vocabulary_size=0"),
        ({"sequence_length": 0}, "sequence_length=0"),
        ({"max_examples": 0}, "max_examples=0: expected an integer of at least 1, or None"),
    ],
)
def test_mistakes(folder, options, message):
    with pytest.raises(ValueError, match=message):
        stackoverflow.load(path=folder, **options)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="stackoverflow.word_count or stackoverflow.word"):
        stackoverflow.load(path=tmp_path)
    (tmp_path / "stackoverflow.word_count").write_text("the 3\n")
    with pytest.raises(FileNotFoundError, match="stackoverflow_train.h5 and stackoverflow_held"):
        stackoverflow.load(path=tmp_path, vocabulary_size=1, test="heldout")


def test_vocabularies_are_checked():
    with pytest.raises(ValueError, match="the word 'a' occurs twice"):
        _vocabulary.ids(["a", "b", "a"])
    with pytest.raises(ValueError, match="expected a sequence of one or more words"):
        _vocabulary.ids([])


def test_synthetic_sentences_can_be_learned():
    train, test = stackoverflow.synthetic(num_clients=30)
    columns, held_out = train.to_arrays(), test.to_arrays()
    size = len(stackoverflow.SYNTHETIC_WORDS) + 4
    assert columns["x"].max() == size - 2 and columns["y"].max() == size - 1
    counts = np.zeros([size, size])
    real = columns["sample_weight"] == 1
    np.add.at(counts, (columns["x"][real], columns["y"][real]), 1)
    real = held_out["sample_weight"] == 1
    guesses = counts.argmax(axis=1)[held_out["x"][real]]
    assert (guesses == held_out["y"][real]).mean() > 0.5  # of about 2.5 words that can follow


def test_synthetic_tags_can_be_learned():
    train, test = stackoverflow.synthetic(num_clients=30, task="tags")
    columns, held_out = train.to_arrays(), test.to_arrays()
    w = np.linalg.lstsq(columns["x"], columns["y"], rcond=None)[0]
    guesses = (held_out["x"] @ w).argmax(axis=1)
    assert (guesses == held_out["y"].argmax(axis=1)).mean() > 0.95
