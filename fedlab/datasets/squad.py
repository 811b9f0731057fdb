"""SQuAD: questions about articles of Wikipedia, each answered by a span of a paragraph; every article is a client.

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

  json       train-v1.1.json and dev-v1.1.json (or v2.0), also as .json.gz, in the
  folder `path` tfds       the same through tensorflow-datasets, which downloads them
  synthetic  `synthetic()` with its defaults

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text";
Rajpurkar et al. 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD".
Partitions as in Lin et al. 2022, "FedNLP: Benchmarking Federated Learning Methods for
Natural Language Processing Tasks", section 3.2: by article, uniform, by topics with
Dirichlet proportions, by quantity.
"""

import importlib.metadata
import logging
import pathlib

import numpy as np

from fedlab import _cache, _checks
from fedlab.clients import partitioners as partitions
from fedlab.datasets import _squad_json, _squad_synthetic, _squad_tfds
from fedlab.tasks.question_answering import topics, windows
from fedlab.tasks.question_answering.wordpiece import Tokens, WordPiece

logger = logging.getLogger(__name__)

VERSIONS = ("1.1", "2.0")
SYNTHETIC_VOCABULARY = _squad_synthetic.VOCABULARY  # the words of `synthetic`


def load(
    source="json",
    *,
    path=None,
    version="1.1",
    cache_dir=None,
    partition="article",
    partition_options=None,
    **options,
):
    """Loads the data set as windows of token ids, ready for a model.

    Args:
      source: "json", "tfds" or "synthetic"; see the module.
      path: with "json": the folder that holds the two files.
      version: "1.1" or "2.0".
      cache_dir: where tokens and downloads are kept; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      partition, partition_options: how train is divided among clients; see `clients`.
        Test is always by article.
      **options: vocabulary, max_length, stride, max_question_length; see
        `make_windows`.

    Returns:
      (train, test), two `ClientData`. `load_windows` also gives what is needed to read
      a model's answers.

    Raises:
      ValueError: a setting out of range, or a file of another form.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: files or libraries that
        cannot be had; says what to do.

    Example:
      >>> train, test = load(path="squad")  # doctest: +SKIP
      >>> train["Beyoncé"]["input_ids"].shape  # doctest: +SKIP
      (785, 384)
    """
    train, test = load_windows(source, path=path, version=version, cache_dir=cache_dir, **options)
    return clients(train, partition, **(partition_options or {})), clients(test)


def load_windows(source="json", *, path=None, version="1.1", cache_dir=None, **options):
    """(train, test) as `fedlab.tasks.question_answering.windows.Windows`. Args and Raises as in `load`."""
    if source == "synthetic":
        _synthetic_reads_nothing(path)
        return synthetic_windows(**options)
    vocabulary = options.pop("vocabulary", None)
    word_piece = vocabulary if isinstance(vocabulary, WordPiece) else WordPiece(vocabulary)
    parts = load_questions(source, path=path, version=version, cache_dir=cache_dir)
    return tuple(
        make_windows(questions, word_piece, cache_dir=cache_dir, **options) for questions in parts
    )


def load_questions(source="json", *, path=None, version="1.1", cache_dir=None):
    """(train, test) as lists of `fedlab.tasks.question_answering.windows.Question`, in the files' order. Args and Raises as in `load`."""
    if version not in VERSIONS:
        raise ValueError(f"received version={version!r}; allowed: {', '.join(VERSIONS)}.")
    if source == "synthetic":
        _synthetic_reads_nothing(path)
        return synthetic_questions()
    if source == "json":
        if path is None:
            raise ValueError(
                "source 'json' needs path=, the folder with SQuAD's files; or use source='tfds', which downloads them."
            )
        return tuple(read(_file(pathlib.Path(path), split, version)) for split in ("train", "dev"))
    if source == "tfds":
        documents = _squad_tfds.documents(version, cache_dir)
        return tuple(
            _report(*_squad_json.parse(document, f"squad {version}")) for document in documents
        )
    raise ValueError(
        f"received source={source!r}; allowed are json, tfds, synthetic: check the spelling."
    )


def read(file):
    """The questions in one file of SQuAD's form, .json or .json.gz; what is left out is counted and logged.

    Returns:
      A list of `fedlab.tasks.question_answering.windows.Question`.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is no JSON, has another form, or no question that can be used.
    """
    return _report(*_squad_json.parse(_squad_json.read(file), str(file)), str(file))


def make_windows(questions, vocabulary=None, *, cache=True, cache_dir=None, **lengths):
    """Tokenizes questions, or takes their tokens from the cache, and cuts them in windows.

    Args:
      questions: `fedlab.tasks.question_answering.windows.Question`s, from `read` or of
        your own.
      vocabulary: a `WordPiece`, or what makes one: a path of a vocab.txt, or None for
        BERT's uncased vocabulary.
      cache: whether to keep the tokens.
      cache_dir: where, as in `load`.
      **lengths: max_length (384), stride (128), max_question_length (64); see
        `fedlab.tasks.question_answering.windows.make`.

    Returns:
      `fedlab.tasks.question_answering.windows.Windows`.
    """
    word_piece = vocabulary if isinstance(vocabulary, WordPiece) else WordPiece(vocabulary)
    contexts = list(dict.fromkeys(question.context for question in questions))
    asked = [question.question for question in questions]

    def tokens():
        parts = (("question", word_piece.encode(asked)), ("context", word_piece.encode(contexts)))
        return {
            f"{part}_{name}": array
            for part, tokens in parts
            for name, array in tokens._asdict().items()
        }

    key = [
        importlib.metadata.version("tokenizers"),
        word_piece.digest,
        str(len(asked)),
        *asked,
        *contexts,
    ]
    arrays = _cache.arrays("squad_tokens", key, tokens, cache_dir=cache_dir) if cache else tokens()
    question_tokens, context_tokens = (
        Tokens(*(arrays[f"{part}_{name}"] for name in Tokens._fields))
        for part in ("question", "context")
    )
    made = windows.make(questions, word_piece, question_tokens, contexts, context_tokens, **lengths)
    _warn(made.skipped, "tokenized questions")
    return made


def clients(windows, partition="article", **options):
    """Divides windows among clients; a question's windows stay together.

    Args:
      windows: `Windows` of this data set.
      partition: one of
        "article": one client an article;
        "uniform": num_clients (100), seed (0);
        "dirichlet": num_clients (100), alpha (1.0), num_topics (30), seed (0),
        min_examples (1): paragraphs are grouped in topics
          (`fedlab.tasks.question_answering.topics`), and each topic's questions are
          shared out;
        "quantity": num_clients (100), alpha (1.0), seed (0), min_examples (1).
      **options: the settings named above; see `fedlab.clients.partitioners` for their
        ranges.

    Returns:
      A `ClientData`, by article with the titles as client ids, else "client_<i>". A
      client's windows are made when it is first read.

    Raises:
      ValueError: another partition, or a setting out of range.
    """
    return windows.clients(client_questions(windows.questions, partition, **options))


def client_questions(questions, partition="article", *, cache_dir=None, **options):
    """client_id -> int64 [n], the numbers of its questions. Args and Raises as in `clients`."""
    if partition not in _PARTITIONS:
        raise ValueError(
            f"received partition={partition!r}; allowed are {', '.join(_PARTITIONS)}: check the spelling."
        )
    make, defaults = _PARTITIONS[partition]
    if unknown := options.keys() - defaults.keys():
        raise ValueError(
            f"partition {partition!r} has no setting {min(unknown)!r}; allowed: {', '.join(defaults) or 'none'}."
        )
    return make(questions, cache_dir, **{**defaults, **options})


def question_topics(questions, num_topics=30, seed=0, cache_dir=None):
    """int64 [n], the topic of each question's paragraph (`fedlab.tasks.question_answering.topics`); kept in the cache."""
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
_PARTITIONS = {
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


def synthetic(num_clients=10, seed=0, **options):
    """Makes a small data set of the same form, without any file: (train, test), two `ClientData`.

    ```
    paragraph = num_facts sentences "<name> <verb> the <thing> in <place> in <year>."
    questions = "Who <verb> the <thing>?"  "Where was the <thing>?"  "When was the <thing> <verb>?"   of each sentence
    ```

    An article's words come with probabilities of its own. The interrogative says what
    kind of word the answer is, the thing in which sentence it stands: with two facts a
    model that only knows the kind is right half of the time.

    Args:
      num_clients: articles to train on, 1 or more; a quarter as many others, at least
        one, test.
      seed: an article is a pure function of (seed, its number).
      **options: num_paragraphs (8) an article; num_facts (2) a paragraph, 1 to 9;
        unanswerable (0), the share of questions, as in version 2.0, about a thing that
        the paragraph lacks; max_length (48), stride and max_question_length, as in
        `make_windows`.

    Example:
      >>> train, test = synthetic(num_clients=4)
      >>> train["ARTICLE_0"]["input_ids"].shape, test.client_ids
      ((48, 48), ('ARTICLE_4',))
    """
    return tuple(clients(part) for part in synthetic_windows(num_clients, seed, **options))


def synthetic_windows(
    num_clients=10,
    seed=0,
    *,
    num_paragraphs=8,
    num_facts=2,
    unanswerable=0.0,
    vocabulary=None,
    max_length=48,
    **lengths,
):
    """`synthetic` as (train, test) `Windows`. `vocabulary`: by default only the words of these texts, 58 tokens."""
    word_piece = (
        vocabulary
        if isinstance(vocabulary, WordPiece)
        else WordPiece(vocabulary or SYNTHETIC_VOCABULARY)
    )
    parts = synthetic_questions(
        num_clients,
        seed,
        num_paragraphs=num_paragraphs,
        num_facts=num_facts,
        unanswerable=unanswerable,
    )
    return tuple(
        make_windows(questions, word_piece, cache=False, max_length=max_length, **lengths)
        for questions in parts
    )


def synthetic_questions(num_clients=10, seed=0, *, num_paragraphs=8, num_facts=2, unanswerable=0.0):
    """`synthetic` as (train, test) lists of `Question`."""
    for name, value, most in (
        ("num_clients", num_clients, None),
        ("num_paragraphs", num_paragraphs, None),
        ("num_facts", num_facts, 9),
    ):
        _checks.check_int(name, value, maximum=most)
    if not _checks.is_number(unanswerable) or not 0 <= unanswerable <= 1:
        raise ValueError(f"unanswerable is {unanswerable!r}; allowed: a share of 0 to 1.")
    numbers = range(num_clients), range(num_clients, num_clients + max(1, num_clients // 4))
    arguments = (seed, num_paragraphs, num_facts, unanswerable)
    return tuple(
        [question for number in part for question in _squad_synthetic.article(number, *arguments)]
        for part in numbers
    )


def _synthetic_reads_nothing(path):
    if path is not None:
        raise ValueError(
            f"received path={str(path)!r} with source='synthetic', which reads no file: leave one of them out."
        )


def _file(folder, split, version):
    candidates = [folder / f"{split}-v{version}.json{suffix}" for suffix in ("", ".gz")]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"received path={str(folder)!r}, where there is no {candidates[0].name} or {candidates[1].name}; give the folder that holds "
            "SQuAD's files, use source='tfds', or read one file with fedlab.datasets.squad.read."
        )
    return found


def _report(questions, skipped, source="squad"):
    if not questions:
        raise ValueError(
            f"{source} has no question that can be used (left out: {skipped or 'nothing, there is none'}); give another file."
        )
    _warn(skipped, source)
    return questions


def _warn(skipped, source):
    if skipped:
        logger.warning(
            "squad: left out of %s: %s",
            source,
            ", ".join(f"{count} x {reason}" for reason, count in skipped.items()),
        )
