"""Explains a model's answer or class by the words of the text (LIME), as text or picture."""

import argparse
import json
import pathlib
from typing import TYPE_CHECKING, Any

from fedlab.cli import _arguments
from fedlab.tasks.question_answering.cli.answer import read

if TYPE_CHECKING:
    from fedlab.tasks.question_answering.explanation import Explanation

_SUFFIXES = (".png", ".html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    _arguments.add_model(parser)
    parser.add_argument(
        "--question", help="the question, with --context, for a model that answers questions"
    )
    parser.add_argument(
        "--context",
        metavar="TEXT",
        help="the text with the answer, or @FILE to read it from a file",
    )
    parser.add_argument(
        "--text", metavar="TEXT", help="the text, or @FILE, for a model that classifies texts"
    )
    parser.add_argument(
        "--class_names",
        metavar="NAMES",
        help="with --text: names of the classes, separated by commas",
    )
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
        "--num_samples",
        type=_arguments.positive_int,
        default=500,
        metavar="N",
        help="perturbed texts (default: 500)",
    )
    parser.add_argument(
        "--num_words",
        type=_arguments.positive_int,
        default=12,
        metavar="N",
        help="words in the explanation (default: 12)",
    )
    parser.add_argument(
        "--seed",
        type=_arguments.non_negative_int,
        default=0,
        metavar="N",
        help="seed of the perturbations (default: 0)",
    )
    parser.add_argument(
        "--batch_size",
        type=_arguments.positive_int,
        default=32,
        metavar="N",
        help="windows per step (default: 32)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="also write a picture: .png, or .html for a web page"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> None:
    """Prints the explanation."""
    _check(args)
    options = {
        name: getattr(args, name)
        for name in ("num_samples", "num_words", "seed", "max_length", "batch_size")
    }
    texts = [
        _text(text)
        for text in ((args.question, args.context) if args.text is None else (args.text,))
    ]

    from fedlab.models.loading import load
    from fedlab.tasks.question_answering import explanation

    model = load(args.model, trust_model=args.trust_model)
    if args.text is None:
        question, context = texts
        found = explanation.explain_answer(model, question, context, args.vocabulary, **options)
    else:
        names = (
            None
            if args.class_names is None
            else [name.strip() for name in args.class_names.split(",")]
        )
        found = explanation.explain_class(
            model, texts[0], args.vocabulary, class_names=names, **options
        )
    if args.output is not None:
        write(found, pathlib.Path(args.output))
    print(json.dumps(describe(found), ensure_ascii=False) if args.json else text(found, args))


def _check(args):
    """Raises ValueError or OSError for wrong arguments, before the model is loaded."""
    if (args.text is None) == (args.question is None and args.context is None):
        raise ValueError(
            "expected --question and --context, for a model that answers questions, or --text, for "
            "one that classifies texts"
        )
    if args.text is None and (args.question is None or args.context is None):
        missing = "--question" if args.question is None else "--context"
        raise ValueError(
            f"{missing} is missing: expected --question and --context for a model that answers "
            "questions"
        )
    if args.class_names is not None and args.text is None:
        raise ValueError("--class_names without --text: expected --text too; leave it out")
    if args.output is not None:
        output = pathlib.Path(args.output)
        if output.suffix not in _SUFFIXES:
            raise ValueError(
                f"--output={args.output}: expected a name that ends in {' or '.join(_SUFFIXES)}"
            )
        if not output.parent.is_dir():
            raise FileNotFoundError(
                f"--output={args.output}: expected an existing folder {str(output.parent)!r}; "
                "create it"
            )
        if output.is_dir():
            raise IsADirectoryError(f"--output={args.output}: expected a file, got a folder")


def _text(argument):
    return read(argument[1:]) if argument.startswith("@") else argument


def write(found: "Explanation", output: pathlib.Path) -> None:
    """Writes the picture in the format of its suffix."""
    if output.suffix == ".html":
        from fedlab import _files

        _files.write(output, found.html().encode())
    else:
        from fedlab.tasks.question_answering import explanation_plot as explanation

        explanation.draw(found, output)


def describe(found: "Explanation") -> dict[str, Any]:
    """Returns the explanation as a dict for JSON."""
    result = {
        "label": found.label,
        "probability": found.probability,
        "fit": found.fit,
        "words": [word._asdict() for word in found.words],
    }
    if found.span is not None:
        result |= {"start": found.span.start, "end": found.span.end, "score": found.span.score}
    return result


def text(found: "Explanation", args: argparse.Namespace) -> str:
    """Returns the explanation as lines of text."""
    said = f"{found.label}; probability {found.probability:.4f}"
    if found.span is not None:
        span = found.span
        said = (
            f"{span.text!r}, characters {span.start} to {span.end}; score {span.score:.3f}, "
            f"probability {span.probability:.4f}"
        )
    lines = [("answer" if found.span is not None else "class", said)]
    lines.append(
        (
            "fit",
            f"R² {found.fit:.3f} of the linear model on {args.num_samples} perturbed texts, "
            f"seed {args.seed}",
        )
    )
    if args.output is not None:
        lines.append(("picture", args.output))
    width = max(len(word.text) for word in found.words)
    rows = [
        f"{word.weight:+.5f}  {word.text:<{width}}  {word.part}, character {word.start}"
        for word in found.words
    ]
    return "\n".join([*(f"{name:<10}{value}" for name, value in lines), "", *rows])
