"""From questions to windows of tokens; the tokens are cached."""

import importlib.metadata
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fedlab import _cache
from fedlab.tasks.question_answering import windows
from fedlab.tasks.question_answering.wordpiece import Tokens, WordPiece

logger = logging.getLogger(__name__)

Vocabulary = WordPiece | str | os.PathLike | Iterable[str] | None
"""A `WordPiece` or its argument: the path of a vocab.txt, tokens, or None for BERT's."""


def word_piece(vocabulary: Vocabulary) -> WordPiece:
    """Returns a `WordPiece` as it is, and makes one of anything else."""
    return vocabulary if isinstance(vocabulary, WordPiece) else WordPiece(vocabulary)


def make_windows(
    questions: Sequence[windows.Question],
    vocabulary: Vocabulary = None,
    *,
    cache: bool = True,
    cache_dir: str | os.PathLike | None = None,
    **lengths: Any,
) -> windows.Windows:
    """Tokenizes questions, or reads their tokens from the cache, and cuts them into windows.

    Args:
      questions: for example from `fedlab.datasets.squad.read`.
      vocabulary: a `WordPiece`, the path of a vocab.txt, a list of tokens, or None for
        BERT's uncased vocabulary.
      cache: whether to cache the tokens.
      cache_dir: the folder of the cache; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      **lengths: max_length (384), stride (a third of it), max_question_length (64); see
        `fedlab.question_answering.windows.make`.
    """
    pieces = word_piece(vocabulary)
    contexts = list(dict.fromkeys(question.context for question in questions))
    asked = [question.question for question in questions]

    def tokens() -> dict[str, np.ndarray]:
        parts = (("question", pieces.encode(asked)), ("context", pieces.encode(contexts)))
        return {
            f"{part}_{name}": array
            for part, tokens in parts
            for name, array in tokens._asdict().items()
        }

    if cache:
        version = importlib.metadata.version("tokenizers")
        key = [version, pieces.digest, str(len(asked)), *asked, *contexts]
        arrays = _cache.arrays("squad_tokens", key, tokens, cache_dir=cache_dir)
    else:
        arrays = tokens()
    question_tokens, context_tokens = (
        Tokens(*(arrays[f"{part}_{name}"] for name in Tokens._fields))
        for part in ("question", "context")
    )
    made = windows.make(questions, pieces, question_tokens, contexts, context_tokens, **lengths)
    warn_skipped(made.skipped, "tokenized questions")
    return made


def warn_skipped(skipped: dict[str, int], source: str) -> None:
    """Logs why questions of a source were omitted, and how many."""
    if skipped:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in skipped.items())
        logger.warning("squad: omitted from %s: %s", source, reasons)
