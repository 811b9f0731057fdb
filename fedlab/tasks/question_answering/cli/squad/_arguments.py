"""Options of several subcommands. This module is fast to import."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedlab.cli import _arguments

if TYPE_CHECKING:
    import tensorflow as tf

    from fedlab.tasks.question_answering.windows import Question, Windows


def add_questions(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select questions: --source, --path, --version, --split."""
    parser.add_argument(
        "--source",
        default="json",
        help="where the questions come from: json (default), tfds, synthetic",
    )
    parser.add_argument(
        "--path", help="with json: the folder with SQuAD's train and dev files, or one file"
    )
    parser.add_argument(
        "--version",
        choices=["1.1", "2.0"],
        default="1.1",
        help="version of SQuAD: 1.1 (default) or 2.0",
    )
    parser.add_argument(
        "--split",
        choices=_arguments.SPLITS,
        default="test",
        help="which of the two files to read (default: test)",
    )


def load_questions(args: argparse.Namespace) -> list:
    """Returns the list of `Question`s that the options of `add_questions` select."""
    from fedlab.datasets import squad

    if args.source == "json" and args.path is not None and os.path.isfile(args.path):
        return squad.read(args.path)
    return squad.load_questions(args.source, path=args.path, version=args.version)[
        _arguments.SPLITS.index(args.split)
    ]


def add_windows(parser: argparse.ArgumentParser) -> None:
    """Adds the options of windows: --vocabulary, --max_length."""
    parser.add_argument(
        "--vocabulary",
        metavar="PATH",
        help="a vocab.txt (default: BERT's uncased one; that of the texts for synthetic)",
    )
    parser.add_argument(
        "--max_length",
        type=_arguments.positive_int,
        metavar="N",
        help="tokens per window (default: the model's, or 384)",
    )


def make_windows(
    args: argparse.Namespace,
    questions: Sequence["Question"],
    model: "tf.keras.Model | None" = None,
    cache: bool = False,
) -> "Windows":
    """Returns the `Windows` of questions for the options of `add_windows` and the model."""
    from fedlab.datasets import squad
    from fedlab.tasks.question_answering import preprocessing

    vocabulary = args.vocabulary or (
        squad.SYNTHETIC_VOCABULARY if args.source == "synthetic" else None
    )
    length = args.max_length or 384
    if model is not None:
        from fedlab.tasks.question_answering.answering import window_length

        length = window_length(model, args.max_length)
    return preprocessing.make_windows(questions, vocabulary, cache=cache, max_length=length)
