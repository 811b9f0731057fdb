"""Sent140: the sentiment of tweets; each account is a client.

Features after `load`:

  x: [N, 25] int32, word ids: padding 0, other words 1, words from 2
  y: [N] int32, 1 for a positive tweet, 0 for a negative one

1,600,000 tweets, half of them positive. Most accounts have few, so that clients are the
accounts with `min_examples` tweets or more.

Sources:

  auto: training.1600000.processed.noemoticon.csv, or trainingandtestdata.zip with it, in
    `path` or downloaded (81 MB). The first 80 % of an account's tweets, in the order of
    the file, are for training.
  leaf: the folder `path` with LEAF's train/*.json and test/*.json.
  synthetic: `synthetic()` with its defaults.

Go et al. 2009, "Twitter Sentiment Classification using Distant Supervision"; by account in
Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings": a tweet is the first 25
words and punctuation marks. Departure: words are those of the training tweets, and not of
GloVe, unless you pass others; padding and other words have different ids. The model is
`fedlab.models.sentiment_lstm`.
"""

import collections
import csv
import io
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _archives, _locate, _vocabulary
from fedlab.datasets._locate import File

SOURCES = ("auto", "leaf", "synthetic")
# The checksum that tensorflow-datasets has.
FILE = File(
    "trainingandtestdata.zip",
    "http://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip",
    "sha256:004a3772c8a7ff9bbfeb875880f47f0679d93fc63e5cf9cff72d54a8a6162e57",
)
_CSV = "training.1600000.processed.noemoticon.csv"
_WORD = re.compile(r"[\w']+|[.,!?;]")
OTHER = 1
"""The id of words that are not in the vocabulary; 0 is padding."""


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    vocabulary: int | Sequence[str] = 10_000,
    max_words: int = 25,
    min_examples: int = 10,
) -> tuple[ClientData, ClientData]:
    """Loads the tweets of each account.

    Args:
      source: "auto", "leaf" or "synthetic"; see the module.
      path: the folder with the source's files.
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      vocabulary: the number of words, the most frequent ones of the training tweets; or
        the words themselves.
      max_words: the most words of a tweet.
      min_examples: accounts with fewer tweets are left out; 2 or more. For "auto".

    Returns:
      (train, test). The word ids are 0 to the number of words + 1.

    Raises:
      ValueError: a setting is out of range, or a file is damaged.
      FileNotFoundError, ConnectionError: a file is not available; the message says what
        to do.

    Example:
      >>> train, test = load(min_examples=50)  # doctest: +SKIP
    """
    _locate.check_source(source, SOURCES, path, needs_path=("leaf",))
    _checks.check_int("max_words", max_words)
    _checks.check_int("min_examples", min_examples, 2)
    if isinstance(vocabulary, int):
        _checks.check_int("vocabulary", vocabulary, what="or the words themselves")
    if source == "synthetic":
        return synthetic(max_words=max_words)
    parts = load_text(source, path=path, cache_dir=cache_dir, min_examples=min_examples)
    words = most_frequent(parts[0], vocabulary) if isinstance(vocabulary, int) else vocabulary
    places = _vocabulary.ids(words)

    def to_model(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = encode(columns["text"].tolist(), places, max_words)
        return {"x": x, "y": columns["y"]}

    return parts[0].map(to_model), parts[1].map(to_model)


def load_text(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    min_examples: int = 10,
) -> tuple[ClientData, ClientData]:
    """Loads the tweets as texts, for models with a vocabulary of their own.

    Args:
      source: "auto" or "leaf"; see the module.
      path, cache_dir, min_examples: as in `load`.

    Returns:
      (train, test), with the columns text, [n] str, and y, [n] int32.

    Raises: as `load`.
    """
    _locate.check_source(source, ("auto", "leaf"), path, needs_path=("leaf",))
    _checks.check_int("min_examples", min_examples, 2)
    if source == "leaf":
        return _leaf(pathlib.Path(path or "").expanduser())
    return _by_account(*_tweets(path, cache_dir), min_examples)


def split_words(text: str) -> list[str]:
    """Returns the words and punctuation marks of a tweet, as LEAF does.

    Example:
      >>> split_words("I can't wait... great!")
      ['I', "can't", 'wait', '.', '.', '.', 'great', '!']
    """
    return _WORD.findall(text)


def encode(texts: Sequence[str], places: dict[bytes, int], max_words: int = 25) -> np.ndarray:
    """Returns int32 [n, max_words], the word ids of tweets; see the module.

    Args:
      texts: [n] tweets.
      places: word -> place, 0 or more; its id is 2 higher.
      max_words: the most words of a tweet.

    Example:
      >>> encode(["so so good", "bad"], {b"so": 0, b"good": 1}, 4).tolist()
      [[2, 2, 3, 0], [1, 0, 0, 0]]
    """
    x = np.zeros([len(texts), max_words], np.int32)
    for row, text in zip(x, texts):
        words = split_words(text)[:max_words]
        row[: len(words)] = [places.get(word.encode(), -1) + 2 for word in words]
    return x


def most_frequent(clients: ClientData, size: int) -> tuple[str, ...]:
    """Returns the most frequent words of all tweets; ties are in alphabetical order.

    Args:
      clients: with a column text.
      size: the most words.
    """
    counts: collections.Counter = collections.Counter()
    for client_id in clients:
        for text in clients[client_id]["text"].tolist():
            counts.update(split_words(text))
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:size])


def _tweets(path: Any, cache_dir: Any) -> tuple[pathlib.Path, bytes]:
    file = _locate.find(FILE, "sent140", path=path, cache_dir=cache_dir, names=(_CSV,))
    if file.suffix == ".zip":
        return file, _archives.members(file, [_CSV])[_CSV]
    return file, file.read_bytes()


def _by_account(
    file: pathlib.Path, data: bytes, min_examples: int
) -> tuple[ClientData, ClientData]:
    """Reads polarity, id, date, query, user, text."""
    accounts: dict[str, list[tuple[str, int]]] = {}
    text = io.TextIOWrapper(io.BytesIO(data), "latin-1", newline="")
    rows: Iterable[list[str]] = csv.reader(text)
    for number, row in enumerate(rows, 1):
        if len(row) != 6 or row[0] not in ("0", "4"):
            raise ValueError(
                f"{str(file)!r}, row {number} has {len(row)} values, the first is "
                f"{row[:1]!r:.40}: expected 0 or 4, id, date, query, user, text; get the file again"
            )
        accounts.setdefault(row[4], []).append((row[5], int(row[0] == "4")))
    if not accounts:
        raise ValueError(f"{str(file)!r} has no tweets: expected at least one; get the file again")
    parts: tuple[dict, dict] = {}, {}
    for account, tweets in sorted(accounts.items()):
        if len(tweets) < min_examples:
            continue
        num_train = len(tweets) * 4 // 5
        for part, some in zip(parts, (tweets[:num_train], tweets[num_train:])):
            texts, labels = zip(*some)
            part[account] = {"text": np.array(texts, object), "y": np.array(labels, np.int32)}
    if not parts[0]:
        raise ValueError(
            f"min_examples={min_examples}: expected at most {max(map(len, accounts.values()))}, "
            "the tweets of the largest account"
        )
    train, test = map(ClientData.from_dict, parts)
    return train, test


def _leaf(folder: pathlib.Path) -> tuple[ClientData, ClientData]:
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise FileNotFoundError(
                f"path={str(folder)!r}: expected a folder with train and test, which LEAF makes, "
                f"but there is no {part}"
            )

    def text(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        # A tweet is its id, date, query, user and text.
        return {"text": columns["x"][:, 4], "y": columns["y"].astype(np.int32)}

    train, test = (ClientData.from_leaf(folder / part).map(text) for part in ("train", "test"))
    return train, test


# ---- Synthetic ----

_GOOD = ("great", "love", "happy", "fun", "sweet", "yay")
_BAD = ("sad", "hate", "bored", "sick", "tired", "ugh")
_NEUTRAL = ("my", "day", "the", "work", "today", "i", "is", "so", "this", ".", "!", "?")
SYNTHETIC_WORDS = (*_GOOD, *_BAD, *_NEUTRAL)


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 20, max_words: int = 25
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    A positive tweet has two positive words among neutral ones, a negative tweet two
    negative words. Clients differ in the frequencies of words and of labels. The
    vocabulary is `SYNTHETIC_WORDS`, so that `sentiment_lstm(len(SYNTHETIC_WORDS) + 2)` fits.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      num_examples: tweets per client, 2 or more; the last fifth is for testing.
      max_words: as in `load`.

    Returns:
      (train, test), with the same clients.

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["user_2"]["x"].shape, len(test["user_2"]["y"])
      ((16, 25), 4)
    """
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_examples", num_examples, 2)
    _checks.check_int("max_words", max_words)
    places = _vocabulary.ids(SYNTHETIC_WORDS)
    num_train = num_examples - max(1, num_examples // 5)
    parts: tuple[dict, dict] = {}, {}
    for k in range(num_clients):
        rng = seeding.generator(seed, "sent140 client", k)
        y = (rng.random(num_examples) < rng.uniform(0.2, 0.8)).astype(np.int32)
        x = encode(_made(rng, y), places, max_words)
        for part, rows in zip(parts, (slice(num_train), slice(num_train, None))):
            part[f"user_{k}"] = {"x": x[rows], "y": y[rows]}
    train, test = map(ClientData.from_dict, parts)
    return train, test


def _made(rng: np.random.Generator, y: np.ndarray) -> list[str]:
    own = [rng.dirichlet(np.ones(len(words))) for words in (_BAD, _GOOD, _NEUTRAL)]
    texts = []
    for label in y:
        words = [
            *rng.choice((_BAD, _GOOD)[label], 2, p=own[label]),
            *rng.choice(_NEUTRAL, rng.integers(4, 9), p=own[2]),
        ]
        texts.append(" ".join(rng.permutation(words)))
    return texts
