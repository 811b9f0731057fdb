"""Answers a question about a text with a question-answering model; prints JSON."""

import argparse
import json

from fedlab.cli import _arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    _arguments.add_model(parser)
    parser.add_argument("--question", required=True, help="the question")
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument(
        "--context",
        metavar="TEXT",
        help="the text with the answer, or @FILE to read it from a file",
    )
    text.add_argument("--context_file", metavar="FILE", help="a UTF-8 file with the text")
    parser.add_argument(
        "--vocabulary",
        metavar="PATH",
        help="the vocab.txt that the model was trained with (default: BERT's uncased one)",
    )
    parser.add_argument(
        "--max_length",
        type=_arguments.positive_int,
        metavar="N",
        help="tokens per window (default: the model's, or 384)",
    )
    parser.add_argument(
        "--stride",
        type=_arguments.non_negative_int,
        metavar="N",
        help="tokens that neighbouring windows share (default: a third of max_length)",
    )
    parser.add_argument(
        "--max_answer_length",
        type=_arguments.positive_int,
        default=30,
        metavar="N",
        help="maximum number of tokens of an answer (default: 30)",
    )


def run(args: argparse.Namespace) -> None:
    """Prints the answer as JSON."""
    context = args.context
    if context is None or context.startswith("@"):
        context = read(args.context_file if context is None else context[1:])
    import fedlab as fl
    from fedlab.models.loading import load

    model = load(args.model, trust_model=args.trust_model)
    found = fl.answer(
        model,
        args.question,
        context,
        args.vocabulary,
        max_length=args.max_length,
        stride=args.stride,
        max_answer_length=args.max_answer_length,
    )
    # Characters [start, end) of the context.
    print(
        json.dumps(
            {"answer": found.text, "start": found.start, "end": found.end, "score": found.score},
            ensure_ascii=False,
        )
    )


def read(file: str) -> str:
    """Returns the text of a file with its line breaks, so that offsets are those of the file."""
    try:
        with open(file, encoding="utf-8", newline="") as source:
            return source.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no file {file!r:.200}: expected a file with the context; check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file!r}: expected UTF-8 text, but byte {error.start} is not; convert it, for "
            "example with iconv"
        ) from None
