"""Stack Overflow: questions and answers; each user is a client.

Features after `load`, for task "next_word" (a row is a sentence):

  x: [N, 20] int32, word ids; padding 0, words 1 to 10,000, other words 10,001, begin of the
    sentence 10,002
  y: [N, 20] int32, the next words, or the end of the sentence 10,003; padding -1
  sample_weight: [N, 20] float32, 1 for a word, 0 for padding

For task "tags":

  x: [N, 10000] float32, the frequencies of words in the sentence and in its title
  y: [N, 500] float32, 1 for the tags of the question, 0 for others

Published counts of users and sentences:

  train: 342,477 and 135,818,730, before 2018
  test: 204,088 and 16,586,035, of the same users since 2018
  heldout: 38,758 and 16,491,230, of other users

Sources:

  auto: the files of TensorFlow Federated, in `path` or downloaded (several GB):
    stackoverflow.sqlite.lzma (no checksum is published, so the numbers of clients are
    compared), or stackoverflow_train.h5 and so on in `path`; and
    stackoverflow.word_count.tar.bz2, for tags also stackoverflow.tag_count.tar.bz2.
  synthetic: `synthetic()` with its defaults.

The text is licensed under CC BY-SA 3.0. Reddi et al. 2020, "Adaptive Federated
Optimization", appendices B and C: the 10,000 most frequent words and 500 most frequent
tags. Models: `fedlab.models.next_word_lstm`, with 50 clients per round, batches of 16 and
`max_examples=1000`; `fedlab.models.tag_regression`, with 10 clients per round, batches of
100 and `max_examples=1000`. Departure: padding has the label -1, not 0.
"""

import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _archives, _counts, _locate, _tff_files, _vocabulary
from fedlab.datasets._locate import File

SOURCES = ("auto", "synthetic")
TASKS = ("next_word", "tags")
NUM_CLIENTS = {"train": 342_477, "heldout": 38_758, "test": 204_088}
# The checksums are those in TensorFlow Federated's code.
WORD_COUNTS = File(
    "stackoverflow.word_count.tar.bz2",
    f"{_tff_files.URL}stackoverflow.word_count.tar.bz2",
    "sha256:1dc00256d6e527c54b9756d968118378ae14e6692c0b3b6cad470cdd3f0c519c",
)
TAG_COUNTS = File(
    "stackoverflow.tag_count.tar.bz2",
    f"{_tff_files.URL}stackoverflow.tag_count.tar.bz2",
    "sha256:6fe281cec490d9384a290d560072438e7e2b377bbb823876ce7bd6f82696772d",
)


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    task: str = "next_word",
    test: str = "test",
    cache_dir: str | os.PathLike | None = None,
    vocabulary_size: int = 10_000,
    num_tags: int = 500,
    sequence_length: int = 20,
    max_examples: int | None = None,
    seed: int = 0,
) -> tuple[ClientData, ClientData]:
    """Loads the sentences of each user, on first use.

    Args:
      source: "auto" or "synthetic"; see the module.
      path: the folder with the source's files.
      task: "next_word" or "tags".
      test: "test" for later sentences of the users, "heldout" for other users.
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      vocabulary_size: number of words, the most frequent ones.
      num_tags: number of tags, the most frequent ones; for "tags".
      sequence_length: the most words of a sentence; for "next_word".
      max_examples: a user with more sentences keeps so many random ones; None for no
        limit.
      seed: determines the sentences that are kept.

    Returns:
      (train, test).

    Raises:
      ValueError: a setting is unknown or out of range, or a file is damaged.
      FileNotFoundError, ConnectionError: a file is not available; the message says what
        to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> len(train), len(test)  # doctest: +SKIP
      (342477, 204088)
    """
    _locate.check_source(source, SOURCES, path)
    if task not in TASKS:
        raise _checks.value_error("task", task, f"one of {', '.join(TASKS)}")
    if test not in ("test", "heldout"):
        raise _checks.value_error("test", test, "'test' or 'heldout'")
    _checks.check_int("sequence_length", sequence_length)
    if max_examples is not None:
        _checks.check_int("max_examples", max_examples, what="or None for no limit")
    if source == "synthetic":
        return synthetic(task=task, sequence_length=sequence_length)
    words = word_vocabulary(vocabulary_size, path=path, cache_dir=cache_dir)
    tags: tuple[str, ...] = ()
    if task == "tags":
        tags = tag_vocabulary(num_tags, path=path, cache_dir=cache_dir)
    parts = _tff_files.load(
        "stackoverflow",
        {"train": "train", test: test},
        sqlite="stackoverflow.sqlite",
        hdf5={"train": "stackoverflow_train.h5", test: f"stackoverflow_{_HDF5[test]}.h5"},
        path=path,
        cache_dir=cache_dir,
    )
    for part, clients in parts.items():
        _counts.check_clients(
            "stackoverflow", part, clients, NUM_CLIENTS[part], strict=path is None
        )
    fn = _preprocessing(task, words, tags, sequence_length)
    prepared = [
        clients.map(fn) if max_examples is None else _limited(clients, max_examples, seed).map(fn)
        for clients in parts.values()
    ]
    return prepared[0], prepared[1]


_HDF5 = {"test": "test", "heldout": "held_out"}


def word_vocabulary(
    size: int = 10_000,
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[str, ...]:
    """Returns the words that most users use, the most frequent first.

    Args:
      size: number of words.
      path: a folder with stackoverflow.word_count, also as .tar.bz2.
      cache_dir: as in `load`.
    """
    _checks.check_int("vocabulary_size", size)
    file, text = _read(WORD_COUNTS, path, cache_dir)
    lines = text.split("\n", size)[:size]
    if len(lines) < size or not all(len(line.split()) == 2 for line in lines):
        raise ValueError(
            f"{str(file)!r}: expected {size} or more lines of a word and a number; use a smaller "
            "vocabulary_size, or delete the file and load again"
        )
    return tuple(line.split()[0] for line in lines)


def tag_vocabulary(
    size: int = 500,
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[str, ...]:
    """Returns the tags that most users use, the most frequent first.

    Args:
      size: number of tags.
      path: a folder with stackoverflow.tag_count, also as .tar.bz2.
      cache_dir: as in `load`.
    """
    _checks.check_int("num_tags", size)
    file, text = _read(TAG_COUNTS, path, cache_dir)
    with _archives.readable(file, "JSON, {tag: number of users}"):
        counts = json.loads(text)
        if not isinstance(counts, dict) or len(counts) < size:
            raise ValueError(f"expected at least num_tags={size} tags")
        # Tags with equal numbers stay in the file's order.
        return tuple(sorted(counts, key=counts.__getitem__, reverse=True)[:size])


def _read(file: File, path: str | os.PathLike | None, cache_dir) -> tuple[pathlib.Path, str]:
    name = file.name.removesuffix(".tar.bz2")
    found = _locate.find(file, "stackoverflow", path=path, cache_dir=cache_dir, names=(name,))
    packed = found.suffix == ".bz2"
    data = _archives.members(found, [name])[name] if packed else found.read_bytes()
    with _archives.readable(found, "UTF-8 text"):
        return found, data.decode()


def preprocess(
    columns: Mapping[str, np.ndarray],
    task: str,
    words: Sequence[str],
    tags: Sequence[str] = (),
    sequence_length: int = 20,
) -> dict[str, np.ndarray]:
    """Turns the columns of TFF's files into those of a model.

    Args:
      columns: tokens: [n] bytes, words separated by spaces; for "tags" also title, and
        tags, separated by "|".
      task: "next_word" or "tags".
      words, tags: the vocabularies.
      sequence_length: as in `load`.

    Returns:
      The columns of the task; see the module.

    Example:
      >>> columns = {"tokens": np.array([b"use the force"], object)}
      >>> preprocess(columns, "next_word", ["the", "use"], sequence_length=4)["y"].tolist()
      [[2, 1, 3, 5]]
    """
    return _preprocessing(task, words, tags, sequence_length)(columns)


def _preprocessing(
    task: str, words: Sequence[str], tags: Sequence[str], sequence_length: int
) -> functools.partial:
    places = _vocabulary.ids(words)
    if task == "next_word":
        return functools.partial(_next_word, places=places, length=sequence_length)
    return functools.partial(_tags, places=places, tags=_vocabulary.ids(tags))


def _next_word(columns, places, length):
    return _vocabulary.sequences(columns["tokens"].tolist(), places, length)


def _tags(columns, places, tags):
    texts = [
        b" ".join(pair).split()
        for pair in zip(columns["tokens"].tolist(), columns["title"].tolist())
    ]
    asked = [tag.split(b"|") for tag in columns["tags"].tolist()]
    return {
        "x": _vocabulary.frequencies(texts, places),
        "y": _vocabulary.present(asked, tags),
    }


def _limited(clients: ClientData, max_examples: int, seed: int) -> ClientData:
    def chosen(client_id: str) -> dict[str, np.ndarray]:
        columns = clients[client_id]
        n = len(columns["tokens"])
        if n <= max_examples:
            return columns
        rng = seeding.generator(seed, "stackoverflow max_examples", client_id)
        rows = np.sort(rng.choice(n, max_examples, replace=False))
        return {name: column[rows] for name, column in columns.items()}

    return ClientData(clients.client_ids, chosen)


# ---- Synthetic ----

_TOPICS = {
    "python": ("list", "dict", "loop", "module", "lambda"),
    "sql": ("table", "join", "query", "index", "row"),
    "css": ("margin", "color", "font", "border", "layout"),
    "git": ("commit", "branch", "merge", "remote", "rebase"),
}
_GRAMMAR = (("how", "why", "when"), ("do", "can", "should"), ("i", "we"), ("use", "fix", "test"))
SYNTHETIC_WORDS = (
    *(word for words in _GRAMMAR for word in words),
    *("the", "a", "with", "?"),
    *(word for words in _TOPICS.values() for word in words),
)
SYNTHETIC_TAGS = tuple(_TOPICS)


def synthetic(
    num_clients: int = 10,
    seed: int = 0,
    *,
    task: str = "next_word",
    num_sentences: int = 40,
    sequence_length: int = 20,
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    ```
    "how can i use the <thing> with a <thing> ?"
    ```

    Both things belong to one of four topics, which is the tag. Clients differ in the
    frequencies of words and topics. The vocabularies are `SYNTHETIC_WORDS` and
    `SYNTHETIC_TAGS`, so that `next_word_lstm(len(SYNTHETIC_WORDS) + 4)` and
    `tag_regression(len(SYNTHETIC_WORDS), len(SYNTHETIC_TAGS))` fit.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      task, sequence_length: as in `load`.
      num_sentences: sentences per client, 2 or more; the last fifth is for testing.

    Returns:
      (train, test), with the same clients.

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["user_2"]["x"].shape, len(test["user_2"]["y"])
      ((32, 20), 8)
    """
    if task not in TASKS:
        raise _checks.value_error("task", task, f"one of {', '.join(TASKS)}")
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_sentences", num_sentences, 2)
    _checks.check_int("sequence_length", sequence_length)
    fn = _preprocessing(task, SYNTHETIC_WORDS, SYNTHETIC_TAGS, sequence_length)
    num_train = num_sentences - max(1, num_sentences // 5)
    parts: tuple[dict, dict] = {}, {}
    for k in range(num_clients):
        columns = _sentences(seeding.generator(seed, "stackoverflow client", k), num_sentences)
        for part, rows in zip(parts, (slice(num_train), slice(num_train, None))):
            part[f"user_{k}"] = {name: column[rows] for name, column in columns.items()}
    train, test = (ClientData.from_dict(part).map(fn) for part in parts)
    return train, test


def _sentences(rng: np.random.Generator, num_sentences: int) -> dict[str, np.ndarray]:
    def frequent(choices: Sequence[str]) -> list[str]:
        p = rng.dirichlet(np.full(len(choices), 0.5))
        return rng.choice(choices, num_sentences, p=p).tolist()

    starts = zip(*(frequent(choices) for choices in _GRAMMAR))
    topics = frequent(SYNTHETIC_TAGS)
    things = {topic: zip(frequent(words), frequent(words)) for topic, words in _TOPICS.items()}
    tokens, titles = [], []
    for start, topic in zip(starts, topics):
        one, other = next(things[topic])
        tokens.append(f"{' '.join(start)} the {one} with a {other} ?".encode())
        titles.append(f"{start[-1]} {one}".encode())
    return {
        "tokens": np.array(tokens, object),
        "title": np.array(titles, object),
        "tags": np.array([topic.encode() for topic in topics], object),
    }
