"""Character ids and sequences: worked out by hand, and equal to TFF's tutorial."""

import os
import pathlib

import numpy as np
import pytest

from fedlab.tasks.generation import text

SHARED = pathlib.Path(
    os.environ.get("FEDLAB_SHARED") or pathlib.Path(__file__).parents[3].parent / "shared"
)


def test_vocabulary_is_the_published_one():
    assert len(text.CHAR_VOCABULARY) == len(set(text.CHAR_VOCABULARY)) == 86
    assert text.CHAR_VOCABULARY.isascii()
    assert [text.CHAR_VOCABULARY.index(char) for char in "dx@ \nZa\r"] == [
        0,
        5,
        6,
        13,
        62,
        54,
        63,
        85,
    ]


@pytest.mark.parametrize(
    "given, ids",
    [
        ("dht", [0, 1, 4]),
        (b"dht", [0, 1, 4]),
        ("", []),
        (b"", []),
        ("h}h", [1, 0, 1]),  # "}" is not in the vocabulary
        ("h\u00e9h", [1, 0, 1]),  # one character, one id
        ("h\u2014\U0001f451h", [1, 0, 0, 1]),
        ("h\u00e9h".encode(), [1, 0, 0, 1]),  # two bytes, two ids: as bytes_split
    ],
)
def test_encode(given, ids):
    got = text.encode(given)
    assert got.dtype == np.int32
    assert got.tolist() == ids


def test_encode_gives_each_character_its_index_and_decode_takes_it_back():
    assert text.encode(text.CHAR_VOCABULARY).tolist() == list(range(86))
    assert text.decode(np.arange(86)) == text.CHAR_VOCABULARY


def test_decode_leaves_out_the_padding_of_targets():
    assert text.decode(np.array([[1, 4], [1, -1]])) == "hth"
    assert text.decode([]) == ""


@pytest.mark.parametrize("ids, word", [([86], "86"), ([-2], "-2"), ([0.5], "float64")])
def test_decode_refuses_what_is_no_id(ids, word):
    with pytest.raises(ValueError, match=word):
        text.decode(ids)


def test_encode_refuses_a_list():
    with pytest.raises(TypeError, match="expected str or bytes, got list"):
        text.encode(["dht"])


def test_normalize():
    given = "\u201cO \u2018tis caf\u00e9\u2014\u00e6on\u2026\u201d\u00a0{C\u0153ur}\t\u4eba"
    assert text.normalize(given) == '"O \'tis cafe--aeon..." Coeur '
    assert text.normalize("{a\\b}", keep="\\") == "a\\b"
    assert text.normalize(text.CHAR_VOCABULARY) == text.CHAR_VOCABULARY


def test_sequences_of_one_full_and_one_partial_chunk_by_hand():
    rows = text.sequences(np.array([7, 1, 2, 3, 4, 5, 6, 8]), length=4)  # chunks 7 1 2 3 4 | 5 6 8
    assert rows["x"].tolist() == [[7, 1, 2, 3], [5, 6, 0, 0]]
    assert rows["y"].tolist() == [[1, 2, 3, 4], [6, 8, -1, -1]]
    assert rows["sample_weight"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert {name: column.dtype.name for name, column in rows.items()} == {
        "x": "int32",
        "y": "int32",
        "sample_weight": "float32",
    }


def test_sequences_drop_the_partial_chunk_when_asked():
    rows = text.sequences(np.array([7, 1, 2, 3, 4, 5, 6, 8]), length=4, drop_remainder=True)
    assert rows["x"].tolist() == [[7, 1, 2, 3]]
    assert rows["y"].tolist() == [[1, 2, 3, 4]]
    assert list(rows) == ["x", "y"]


@pytest.mark.parametrize(
    "num_chars, rows", [(0, 0), (1, 0), (2, 1), (4, 1), (5, 1), (6, 1), (7, 2), (10, 2), (11, 2)]
)
def test_number_of_rows(num_chars, rows):
    got = text.sequences(np.ones([num_chars], np.int32), length=4)
    assert got["x"].shape == got["y"].shape == got["sample_weight"].shape == (rows, 4)
    assert text.num_sequences(num_chars, length=4) == rows
    dropped = text.sequences(np.ones([num_chars], np.int32), length=4, drop_remainder=True)
    assert dropped["x"].shape == (num_chars // 5, 4)
    assert text.num_sequences(num_chars, length=4, drop_remainder=True) == num_chars // 5


def test_every_character_but_the_first_of_a_chunk_is_a_target_once():
    rng = np.random.default_rng(0)
    for num_chars in (2, 3, 99, 100, 101, 102, 103, 5000):
        ids = rng.integers(0, 86, num_chars).astype(np.int32)
        rows = text.sequences(ids)
        num_chunks = -(-num_chars // 101)
        real = rows["sample_weight"] == 1
        lone = (
            num_chars % 101 == 1
        )  # a last chunk of one character is no row, and has no target to lose
        assert real.sum() == num_chars - num_chunks
        assert len(rows["x"]) == num_chunks - lone
        starts = np.arange(num_chars) % 101 == 0
        assert rows["y"][real].tolist() == ids[~starts].tolist()
        assert (rows["y"][~real] == -1).all() and (rows["x"][~real] == 0).all()


def test_sequences_refuse_rows_and_a_length_of_zero():
    with pytest.raises(ValueError, match=r"shape \[2, 3\]"):
        text.sequences(np.zeros([2, 3], np.int32))
    with pytest.raises(ValueError, match="length=0: expected an integer of at least 1"):
        text.sequences(np.zeros([3], np.int32), length=0)


def test_equals_the_preprocessing_of_tffs_tutorial():
    file = SHARED / "data" / "shakespeare_tff" / "shakespeare_train.h5"
    if not file.is_file():
        pytest.skip(f"TFF's Shakespeare is not at {file}; set FEDLAB_SHARED")
    import h5py
    import tensorflow as tf

    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            keys=list(text.CHAR_VOCABULARY), values=tf.constant(range(86), tf.int64)
        ),
        default_value=0,
    )

    def to_ids(snippet):
        return table.lookup(tf.strings.bytes_split(tf.reshape(snippet, [1])).values)

    with h5py.File(file) as opened:
        clients = list(opened["examples"])[::90]
        clients += [
            name for name in opened["examples"] if name.endswith(("HAMLET_HAMLET", "_SPEED"))
        ]
        snippets = {
            client: opened["examples"][client]["snippets"][()].tolist() for client in clients
        }
    total = 0
    for said in snippets.values():
        tutorial = (
            tf.data.Dataset.from_tensor_slices(said)
            .map(to_ids)
            .unbatch()
            .batch(101, drop_remainder=True)
            .map(lambda chunk: (chunk[:-1], chunk[1:]))
        )
        rows = text.sequences(text.encode(b"".join(said)), length=100, drop_remainder=True)
        expected = list(tutorial.as_numpy_iterator())
        assert len(expected) == len(rows["x"])
        for (x, y), got_x, got_y in zip(expected, rows["x"], rows["y"], strict=True):
            np.testing.assert_array_equal(x, got_x)
            np.testing.assert_array_equal(y, got_y)
        total += len(expected)
    assert total > 100
