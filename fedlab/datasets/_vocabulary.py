"""Vocabularies: words and their ids."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fedlab import _checks

PADDING_Y = -1
"""The label of padding."""


def ids(words: Sequence[str]) -> dict[bytes, int]:
    """Returns word -> its place, with words as UTF-8 bytes.

    Raises:
      ValueError: there is no word, or one occurs twice.
    """
    if isinstance(words, (str, bytes)) or not words:
        raise _checks.value_error("vocabulary", words, "a sequence of one or more words")
    places = {word.encode(): i for i, word in enumerate(words)}
    if len(places) < len(words):
        twice = next(word for i, word in enumerate(words) if places[word.encode()] != i)
        raise ValueError(f"vocabulary: the word {twice!r} occurs twice: expected each word once")
    return places


def sequences(
    texts: Iterable[bytes], places: Mapping[bytes, int], length: int
) -> dict[str, np.ndarray]:
    """Turns sentences into the examples of a next-word model.

    ```
    ids: padding 0, words 1 to V, other words V + 1, begin V + 2, end V + 3
    s = [begin] + ids of the first `length` words + [end], if the sentence is shorter
    x = s[:-1], y = s[1:], both padded to `length`
    ```

    Args:
      texts: sentences, whose words are separated by single spaces.
      places: word -> place, 0 to V - 1.
      length: the most words of a sentence.

    Returns:
      x: int32 [n, length], padding 0; y: int32 [n, length], padding -1; sample_weight:
      float32 [n, length], 1 for a word, 0 for padding.

    Example:
      >>> sequences([b"to be"], {b"be": 0}, 4)["x"].tolist()
      [[3, 2, 1, 0]]
    """
    texts = list(texts)
    other, begin, end = (len(places) + i for i in (1, 2, 3))
    s = np.zeros([len(texts), length + 1], np.int32)
    s[:, 0] = begin
    num_targets = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        words = [places[word] + 1 if word in places else other for word in text.split(b" ")]
        words = [*words, end][:length]
        s[row, 1 : len(words) + 1] = words
        num_targets[row] = len(words)
    real = np.arange(length) < num_targets[:, None]
    return {
        # The end of a sentence is a target, and never an input.
        "x": np.where(real, s[:, :-1], 0).astype(np.int32),
        "y": np.where(real, s[:, 1:], PADDING_Y).astype(np.int32),
        "sample_weight": real.astype(np.float32),
    }


def frequencies(texts: Sequence[Sequence[bytes]], places: Mapping[bytes, int]) -> np.ndarray:
    """Returns float32 [n, V], how often each word occurs among the known words of a text.

    Example:
      >>> frequencies([[b"to", b"be", b"to", b"or"], []], {b"to": 0, b"be": 1}).tolist()
      [[0.6666666865348816, 0.3333333432674408], [0.0, 0.0]]
    """
    counts = np.zeros([len(texts), len(places)], np.float32)
    for row, words in zip(counts, texts):
        known = [places[word] for word in words if word in places]
        np.add.at(row, known, 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def present(texts: Sequence[Sequence[bytes]], places: Mapping[bytes, int]) -> np.ndarray:
    """Returns float32 [n, V], 1 where a word is in a text and 0 elsewhere.

    Example:
      >>> present([[b"css", b"sql"], [b"c"]], {b"sql": 0, b"html": 1}).tolist()
      [[1.0, 0.0], [0.0, 0.0]]
    """
    found = np.zeros([len(texts), len(places)], np.float32)
    for row, words in zip(found, texts):
        row[[places[word] for word in words if word in places]] = 1
    return found
