"""20 Newsgroups: messages by topic, divided among clients by a partitioner.

Features after `load` (a row is the beginning of a message):

  input_ids: [N, 256] int32, word pieces of BERT's uncased vocabulary; padding 0
  token_type_ids: [N, 256] int32, 0
  attention_mask: [N, 256] int32, 0 for padding, 1 elsewhere
  y: [N] int32, the newsgroup, 0 to 19: `CLASSES`

11,314 messages for training and 7,532 later ones for testing, which are one client, "test".

Sources:

  auto: 20news-bydate.tar.gz, or the extracted folders 20news-bydate-train and -test, in
    `path`; without a path, the archive is downloaded (14 MB). scikit-learn's cache of the
    same archive is a pickle, which could run code, and is not read.
  synthetic: `synthetic()` with its defaults.

Lang 1995, "NewsWeeder: Learning to Filter Netnews". Lin et al. 2022, "FedNLP: Benchmarking
Federated Learning Methods for Natural Language Processing Tasks", section 3.2: 100 clients
with Dirichlet proportions of the labels. The model is
`fedlab.models.bert.classification(20, ...)`.
"""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import partitioners, seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _archives, _locate
from fedlab.datasets._locate import File
from fedlab.tasks.question_answering.preprocessing import Vocabulary, word_piece
from fedlab.tasks.question_answering.wordpiece import SPECIAL, WordPiece

_CLASSES = """
alt.atheism comp.graphics comp.os.ms-windows.misc comp.sys.ibm.pc.hardware
comp.sys.mac.hardware comp.windows.x misc.forsale rec.autos rec.motorcycles
rec.sport.baseball rec.sport.hockey sci.crypt sci.electronics sci.med sci.space
soc.religion.christian talk.politics.guns talk.politics.mideast talk.politics.misc
talk.religion.misc
"""
CLASSES = tuple(_CLASSES.split())
# Where scikit-learn downloads it from, with its checksum.
FILE = File(
    "20news-bydate.tar.gz",
    "https://ndownloader.figshare.com/files/5975967",
    "sha256:8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610",
)
SOURCES = ("auto", "synthetic")
NUM_EXAMPLES = {"train": 11_314, "test": 7_532}


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    partitioner: Any = None,
    remove_headers: bool = True,
    vocabulary: Vocabulary = None,
    max_length: int = 256,
) -> tuple[ClientData, ClientData]:
    """Loads the messages as token ids, and divides those for training among clients.

    Args:
      source: "auto" or "synthetic"; see the module.
      path: the folder with the source's files.
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      partitioner: which client has which message; see `fedlab.clients.partitioners`. The
        columns are text and y. By default 100 clients with Dirichlet(1) proportions of
        the labels.
      remove_headers: whether to leave out the lines before the first empty line, which
        name the newsgroup.
      vocabulary: a `fedlab.question_answering.wordpiece.WordPiece`, the path of a
        vocab.txt, a list of tokens, or None for BERT's uncased vocabulary.
      max_length: tokens per row, 3 or more. The rest of a message is left out.

    Returns:
      (train, test).

    Raises:
      ValueError: a setting is out of range, or a file is damaged or incomplete.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: a file or a library is not
        available; the message says what to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> len(train), test["test"]["input_ids"].shape  # doctest: +SKIP
      (100, (7532, 256))
    """
    _locate.check_source(source, SOURCES, path)
    _checks.check_int("max_length", max_length, 3)
    if source == "synthetic":
        return synthetic(max_length=max_length)
    parts = load_text(path=path, cache_dir=cache_dir, remove_headers=remove_headers)
    pieces = word_piece(vocabulary)
    if partitioner is None:
        partitioner = partitioners.dirichlet(num_clients=100, alpha=1.0, seed=0)
    to_model = functools.partial(preprocess, pieces=pieces, max_length=max_length)
    train = partitioners.clients(parts["train"], partitioner)
    test = ClientData.from_dict({"test": parts["test"]})
    return train.map(to_model), test.map(to_model)


def load_text(
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    remove_headers: bool = True,
) -> dict[str, dict[str, np.ndarray]]:
    """Returns "train" and "test", each with the columns text, [n] str, and y, [n] int32.

    Args, Raises: as in `load`.
    """
    folder = None if path is None else pathlib.Path(path).expanduser()
    if folder is not None and (folder / "20news-bydate-train").is_dir():
        file = folder
        found = {
            each.relative_to(folder).as_posix(): each.read_bytes()
            for each in folder.glob("20news-bydate-*/*/*")
        }
    else:
        file = _locate.find(FILE, "twenty_newsgroups", path=path, cache_dir=cache_dir)
        found = _archives.everything(file)
    parts = {}
    for part, published in NUM_EXAMPLES.items():
        texts, labels = [], []
        for label, name in enumerate(CLASSES):
            start = f"20news-bydate-{part}/{name}/"
            for each in sorted(key for key in found if key.startswith(start)):
                text = found[each].decode("latin-1")
                texts.append(text.partition("\n\n")[2] if remove_headers else text)
                labels.append(label)
        if len(texts) != published:
            raise ValueError(
                f"{str(file)!r} has {len(texts)} messages of {part}: expected {published}; get "
                "the complete 20news-bydate.tar.gz"
            )
        parts[part] = {"text": np.array(texts, object), "y": np.array(labels, np.int32)}
    return parts


def preprocess(
    columns: Mapping[str, np.ndarray], pieces: WordPiece, max_length: int = 256
) -> dict[str, np.ndarray]:
    """Turns texts into the inputs of BERT.

    ```
    input_ids = [CLS] + the first max_length - 2 word pieces + [SEP] + padding
    ```

    Args:
      columns: text: [n] str, and y.
      pieces: the vocabulary.
      max_length: tokens per row, 3 or more.

    Returns:
      The columns of a model; see the module.

    Example:
      >>> pieces = WordPiece([*SPECIAL, "god", "##s"])
      >>> columns = {"text": np.array(["Gods"], object), "y": np.array([0])}
      >>> preprocess(columns, pieces, 6)["input_ids"].tolist()
      [[2, 4, 5, 3, 0, 0]]
    """
    texts = columns["text"].tolist()
    tokens = pieces.encode(texts)
    ids = np.full([len(texts), max_length], pieces.pad_id, np.int32)
    mask = np.zeros_like(ids)
    for i in range(len(texts)):
        row = [pieces.cls_id, *tokens.of(i)[0][: max_length - 2].tolist(), pieces.sep_id]
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {
        "input_ids": ids,
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": mask,
        "y": columns["y"].astype(np.int32),
    }


# ---- Synthetic ----

_SHARED = ("the", "i", "think", "about", "is", "with", "new", "please", "anyone", "know")
# A word for the newsgroup, such as "hockey", and one for its kind, such as "rec".
_TOPICS = tuple(name.split(".")[-1] for name in CLASSES[:19]) + ("belief",)
_KINDS = tuple(name.split(".")[0] for name in CLASSES)
SYNTHETIC_VOCABULARY = (*SPECIAL, *sorted({*_SHARED, *_TOPICS, *_KINDS}))


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 20, max_length: int = 24
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    A message has two words of its newsgroup among others. Clients differ in the
    frequencies of labels and words. The vocabulary is `SYNTHETIC_VOCABULARY`.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      num_examples: messages per client, 1 or more; the client "test" has twice as many.
      max_length: tokens per row, 3 or more.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["client_2"]["input_ids"].shape, test.client_ids
      ((20, 24), ('test',))
    """
    _checks.check_int("max_length", max_length, 3)
    to_model = functools.partial(
        preprocess, pieces=WordPiece(SYNTHETIC_VOCABULARY), max_length=max_length
    )
    train, test = synthetic_text(num_clients, seed, num_examples=num_examples)
    return train.map(to_model), test.map(to_model)


def synthetic_text(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 20
) -> tuple[ClientData, ClientData]:
    """Returns the messages of `synthetic` as texts: the columns text, [n] str, and y, [n] int32.

    Args: as in `synthetic`.

    Example:
      >>> train, test = synthetic_text(num_clients=3)
      >>> CLASSES[train["client_0"]["y"][0]], train["client_0"]["text"][0]
      ('sci.space', 'know with the space the please with is know sci the think new')
    """
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_examples", num_examples)
    made = {}
    for k in range(num_clients):
        rng = seeding.generator(seed, "twenty_newsgroups client", k)
        made[f"client_{k}"] = _messages(rng, num_examples)
    test = {"test": _messages(seeding.generator(seed, "twenty_newsgroups test"), 2 * num_examples)}
    return ClientData.from_dict(made), ClientData.from_dict(test)


def _messages(rng: np.random.Generator, num_examples: int) -> dict[str, np.ndarray]:
    y = rng.choice(len(CLASSES), num_examples, p=rng.dirichlet(np.full(len(CLASSES), 0.5)))
    own = rng.dirichlet(np.ones(len(_SHARED)))
    texts = []
    for label in y:
        words: Sequence[str] = [
            *rng.choice(_SHARED, rng.integers(5, 12), p=own),
            *(_TOPICS[label], _KINDS[label]),
        ]
        texts.append(" ".join(rng.permutation(words)))
    return {"text": np.array(texts, object), "y": y.astype(np.int32)}
