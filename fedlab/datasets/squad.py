"""SQuAD: questions about Wikipedia articles, answered by a span of text; an article is a client.

Features after `load` (a row is one window of a question and its paragraph, see
`fedlab.tasks.question_answering.windows`):

  input_ids: [N, 384] int32, word pieces of BERT's uncased vocabulary; padding 0
  token_type_ids: [N, 384] int32, 1 for the paragraph, 0 for the question
  attention_mask: [N, 384] int32, 0 for padding, 1 elsewhere
  y: [N, 2] int32, positions of the answer's first and last token; 0, 0 where the window
    has no answer

Version 1.1: 442 / 48 articles, 18,896 / 2,067 paragraphs and 87,599 / 10,570 questions
in train / test (its "dev"), which are 88,524 / 10,784 windows of 384 tokens with a
stride of 128. Version 2.0 adds questions that have no answer. Train and test share no
article.

Sources:

  json: train-v1.1.json and dev-v1.1.json (or v2.0), also as .json.gz, in a folder `path`.
  tfds: the same from tensorflow-datasets, which downloads them.
  synthetic: `synthetic()` with its defaults.

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text";
Rajpurkar et al. 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD".
Partitions as in Lin et al. 2022, "FedNLP: Benchmarking Federated Learning Methods for
Natural Language Processing Tasks", section 3.2: by article, uniform, by topics with
Dirichlet proportions, by quantity.
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedlab import _cache, _checks
from fedlab.clients import partitioners as partitions
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _squad_json, _squad_synthetic, _squad_tfds
from fedlab.tasks.question_answering import topics
from fedlab.tasks.question_answering.preprocessing import (
    Vocabulary,
    make_windows,
    warn_skipped,
    word_piece,
)
from fedlab.tasks.question_answering.windows import Question, Windows

VERSIONS = ("1.1", "2.0")
SYNTHETIC_VOCABULARY = _squad_synthetic.VOCABULARY  # the words of `synthetic`


def load(
    source: str = "json",
    *,
    path: str | os.PathLike | None = None,
    version: str = "1.1",
    cache_dir: str | os.PathLike | None = None,
    partition: str = "article",
    partition_options: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[ClientData, ClientData]:
    """Loads the data set as windows of token ids, ready for a model.

    Args:
      source: "json", "tfds" or "synthetic"; see the module.
      path: for "json", the folder of the two files.
      version: "1.1" or "2.0".
      cache_dir: the folder for tokens and downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      partition, partition_options: how the training questions are divided among clients;
        see `clients`. The test questions are always divided by article.
      **options: vocabulary, max_length, stride, max_question_length; see
        `make_windows`.

    Returns:
      (train, test). To evaluate a model's answers, use `load_windows` instead.

    Raises:
      ValueError: a setting is out of range, or a file has another structure.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: a file or a library is not
        available; the message says what to do.

    Example:
      >>> train, test = load(path="squad")  # doctest: +SKIP
      >>> train["Beyoncé"]["input_ids"].shape  # doctest: +SKIP
      (785, 384)
    """
    train, test = load_windows(source, path=path, version=version, cache_dir=cache_dir, **options)
    return clients(train, partition, **(partition_options or {})), clients(test)


def load_windows(
    source: str = "json",
    *,
    path: str | os.PathLike | None = None,
    version: str = "1.1",
    cache_dir: str | os.PathLike | None = None,
    **options: Any,
) -> tuple[Windows, Windows]:
    """Returns (train, test) as `fedlab.question_answering.windows.Windows`.

    Args and Raises as in `load`.
    """
    if source == "synthetic":
        _synthetic_reads_nothing(path)
        return synthetic_windows(**options)
    pieces = word_piece(options.pop("vocabulary", None))
    parts = load_questions(source, path=path, version=version, cache_dir=cache_dir)
    train, test = (
        make_windows(questions, pieces, cache_dir=cache_dir, **options) for questions in parts
    )
    return train, test


def load_questions(
    source: str = "json",
    *,
    path: str | os.PathLike | None = None,
    version: str = "1.1",
    cache_dir: str | os.PathLike | None = None,
) -> tuple[list[Question], list[Question]]:
    """Returns (train, test) as lists of `Question`, in the order of the files.

    Args and Raises as in `load`.
    """
    if version not in VERSIONS:
        raise ValueError(f"version={version!r}: expected one of {', '.join(VERSIONS)}")
    if source == "synthetic":
        _synthetic_reads_nothing(path)
        return synthetic_questions()
    if source == "json":
        if path is None:
            raise ValueError(
                "path=None: expected the folder with SQuAD's files for source='json'; or use "
                "source='tfds', which downloads them"
            )
        folder = pathlib.Path(path)
        return read(_file(folder, "train", version)), read(_file(folder, "dev", version))
    if source == "tfds":
        documents = _squad_tfds.documents(version, cache_dir)
        train, test = (_squad_json.parse(document, f"squad {version}") for document in documents)
        return _report(*train), _report(*test)
    raise ValueError(
        f"source={source!r}: expected one of json, tfds, synthetic; check the spelling"
    )


def read(file: str | os.PathLike) -> list[Question]:
    """Reads the questions in one file of SQuAD's form, .json or .json.gz.

    Unusable questions are omitted; their number is logged.

    Returns:
      A list of `fedlab.question_answering.windows.Question`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not JSON, has another structure, or has no usable question.
    """
    return _report(*_squad_json.parse(_squad_json.read(file), str(file)), str(file))


def clients(windows: Windows, partition: str = "article", **options: Any) -> ClientData:
    """Divides windows among clients; a question's windows stay together.

    Args:
      windows: `Windows` of this data set.
      partition: one of
        "article": one client per article;
        "uniform": num_clients (100), seed (0);
        "dirichlet": num_clients (100), alpha (1.0), num_topics (30), seed (0) and
          min_examples (1). Paragraphs are grouped by topic
          (`fedlab.tasks.question_answering.topics`), and the questions of each topic are
          divided among the clients;
        "quantity": num_clients (100), alpha (1.0), seed (0), min_examples (1).
      **options: the settings above; see `fedlab.clients.partitioners` for their ranges.

    Returns:
      A `ClientData`. The client ids are the titles for "article", otherwise "client_<i>".
      A client's windows are created when it is first read.

    Raises:
      ValueError: the partition is unknown, or a setting is out of range.
    """
    return windows.clients(client_questions(windows.questions, partition, **options))


def client_questions(
    questions: Sequence[Question],
    partition: str = "article",
    *,
    cache_dir: str | os.PathLike | None = None,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Returns client_id -> int64 [n], the indices of its questions.

    Args and Raises as in `clients`.
    """
    if partition not in _PARTITIONS:
        raise ValueError(
            f"partition={partition!r}: expected one of {', '.join(_PARTITIONS)}; check the spelling"
        )
    make, defaults = _PARTITIONS[partition]
    if unknown := options.keys() - defaults.keys():
        raise ValueError(
            f"{min(unknown)!r}: expected a setting of partition {partition!r}, which are "
            f"{', '.join(defaults) or 'none'}"
        )
    return make(questions, cache_dir, **{**defaults, **options})


def question_topics(
    questions: Sequence[Question],
    num_topics: int = 30,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
) -> np.ndarray:
    """Returns int64 [n], the topic of each question's paragraph; the result is cached."""
    contexts = list(dict.fromkeys(question.context for question in questions))
    key = [str(num_topics), str(seed), *contexts]
    arrays = _cache.arrays(
        "squad_topics",
        key,
        lambda: {"topics": topics.topics(contexts, num_topics, seed)},
        cache_dir=cache_dir,
    )
    topic = dict(zip(contexts, arrays["topics"].tolist()))
    return np.array([topic[question.context] for question in questions])


def _dirichlet(questions, cache_dir, num_topics, seed, **options):
    return partitions.dirichlet(
        question_topics(questions, num_topics, seed, cache_dir), seed=seed, **options
    )


_SKEW = {"num_clients": 100, "alpha": 1.0, "seed": 0, "min_examples": 1}
_PARTITIONS: dict[str, tuple[Callable[..., dict[str, np.ndarray]], dict[str, Any]]] = {
    "article": (
        lambda questions, _: partitions.natural([question.title for question in questions]),
        {},
    ),
    "uniform": (
        lambda questions, _, **options: partitions.uniform(len(questions), **options),
        {"num_clients": 100, "seed": 0},
    ),
    "dirichlet": (_dirichlet, {**_SKEW, "num_topics": 30}),
    "quantity": (
        lambda questions, _, **options: partitions.quantity_skew(len(questions), **options),
        _SKEW,
    ),
}


def synthetic(
    num_clients: int = 10, seed: int = 0, **options: Any
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form: (train, test), two `ClientData`.

    ```
    paragraph = num_facts sentences "<name> <verb> the <thing> in <place> in <year>."
    questions = "Who <verb> the <thing>?"             for each sentence
                "Where was the <thing>?"
                "When was the <thing> <verb>?"
    ```

    Word frequencies differ between articles. The interrogative determines the kind of
    word that is the answer; the thing determines its sentence. With two facts, a model
    that knows only the kind is right half of the time.

    Args:
      num_clients: number of articles to train on, 1 or more. A quarter as many other
        articles, at least one, are for testing.
      seed: article i is a pure function of (seed, i).
      **options: num_paragraphs (8) per article; num_facts (2) per paragraph, 1 to 9;
        unanswerable (0), the share of questions, as in version 2.0, about a thing that
        is not in the paragraph; max_length (48), stride and max_question_length, as in
        `make_windows`.

    Example:
      >>> train, test = synthetic(num_clients=4)
      >>> train["ARTICLE_0"]["input_ids"].shape, test.client_ids
      ((48, 48), ('ARTICLE_4',))
    """
    train, test = synthetic_windows(num_clients, seed, **options)
    return clients(train), clients(test)


def synthetic_windows(
    num_clients: int = 10,
    seed: int = 0,
    *,
    num_paragraphs: int = 8,
    num_facts: int = 2,
    unanswerable: float = 0.0,
    vocabulary: Vocabulary = None,
    max_length: int = 48,
    **lengths: Any,
) -> tuple[Windows, Windows]:
    """Returns `synthetic` as (train, test) `Windows`.

    The default vocabulary has only the words of these texts, 58 tokens.
    """
    pieces = word_piece(vocabulary or SYNTHETIC_VOCABULARY)
    parts = synthetic_questions(
        num_clients,
        seed,
        num_paragraphs=num_paragraphs,
        num_facts=num_facts,
        unanswerable=unanswerable,
    )
    train, test = (
        make_windows(questions, pieces, cache=False, max_length=max_length, **lengths)
        for questions in parts
    )
    return train, test


def synthetic_questions(
    num_clients: int = 10,
    seed: int = 0,
    *,
    num_paragraphs: int = 8,
    num_facts: int = 2,
    unanswerable: float = 0.0,
) -> tuple[list[Question], list[Question]]:
    """Returns `synthetic` as (train, test) lists of `Question`."""
    for name, value, most in (
        ("num_clients", num_clients, None),
        ("num_paragraphs", num_paragraphs, None),
        ("num_facts", num_facts, 9),
    ):
        _checks.check_int(name, value, maximum=most)
    _checks.check_number("unanswerable", unanswerable, 0, 1, what="a share of the questions")
    numbers = range(num_clients), range(num_clients, num_clients + max(1, num_clients // 4))
    arguments = (seed, num_paragraphs, num_facts, unanswerable)
    train, test = (
        [question for number in part for question in _squad_synthetic.article(number, *arguments)]
        for part in numbers
    )
    return train, test


def _synthetic_reads_nothing(path):
    if path is not None:
        raise ValueError(
            f"path={str(path)!r}: expected None with source='synthetic', which reads no file"
        )


def _file(folder, split, version):
    candidates = [folder / f"{split}-v{version}.json{suffix}" for suffix in ("", ".gz")]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"path={str(folder)!r}: expected a folder with {candidates[0].name} or "
            f"{candidates[1].name}; or use source='tfds', or read one file with "
            "fedlab.datasets.squad.read"
        )
    return found


def _report(questions, skipped, source="squad"):
    if not questions:
        raise ValueError(
            f"{source}: expected a usable question, got none (omitted: {skipped or 'none'}); pass "
            "another file"
        )
    warn_skipped(skipped, source)
    return questions
