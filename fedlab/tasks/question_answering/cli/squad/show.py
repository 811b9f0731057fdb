"""Shows one question: context, expected answer, tokens, client, and a model's answer."""

import argparse
import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fedlab.cli import _arguments
from fedlab.tasks.question_answering.cli.squad import _arguments as _squad_arguments

if TYPE_CHECKING:
    import tensorflow as tf

    from fedlab.tasks.question_answering.windows import Question, Windows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--index",
        type=_arguments.non_negative_int,
        metavar="N",
        help="the question's number in the file, from 0",
    )
    which.add_argument("--random", action="store_true", help="any question; its number is shown")
    which.add_argument(
        "--search",
        metavar="TEXT",
        help="the first question with this text in the question, its answers or its context",
    )
    parser.add_argument(
        "--seed",
        type=_arguments.non_negative_int,
        metavar="N",
        help="with --random: seed of the choice",
    )
    _squad_arguments.add_questions(parser)
    _squad_arguments.add_windows(parser)
    parser.add_argument(
        "--partition",
        default="article",
        help="how clients are made: article (default), uniform, dirichlet, quantity",
    )
    _arguments.add_model(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> None:
    """Prints the question."""
    if args.search is not None and not args.search.strip():
        raise ValueError(f"--search={args.search!r}: expected a text to find, or --random")
    if args.seed is not None and not args.random:
        raise ValueError("--seed without --random: expected --random too; leave it out")
    questions = _squad_arguments.load_questions(args)
    index, others = choose(args, questions)
    result = describe(args, questions, index)
    if args.search is not None:
        result["other_matches"] = others
    print(json.dumps(result, ensure_ascii=False) if args.json else text(result))


def choose(args: argparse.Namespace, questions: Sequence["Question"]) -> tuple[int, list[int]]:
    """Returns (the selected question, the others that match --search), as indices."""
    if args.index is not None:
        if args.index >= len(questions):
            raise ValueError(f"--index={args.index}: expected 0 to {len(questions) - 1}")
        return args.index, []
    if args.random:
        import numpy as np

        return int(np.random.default_rng(args.seed).integers(len(questions))), []
    found = search(questions, args.search)
    if not found:
        raise ValueError(
            f"--search={args.search!r}: expected words of one of the {len(questions)} questions; "
            "try fewer words"
        )
    return found[0], found[1:]


def search(questions: Sequence["Question"], words: str) -> list[int]:
    """Returns the indices of questions with this text in the question, an answer or the context."""
    words = words.casefold()
    asked = {i: None for i, q in enumerate(questions) if words in q.question.casefold()}
    answered = {
        i: None
        for i, q in enumerate(questions)
        if any(words in answer.text.casefold() for answer in q.answers)
    }
    contexts = {context: words in context.casefold() for context in {q.context for q in questions}}
    return list(
        asked | answered | {i: None for i, q in enumerate(questions) if contexts[q.context]}
    )


def describe(
    args: argparse.Namespace, questions: Sequence["Question"], index: int
) -> dict[str, Any]:
    """Returns the description of a question as a dict for JSON."""
    from fedlab.datasets import squad

    question = questions[index]
    clients = squad.client_questions(questions, args.partition)
    client_id = next(client_id for client_id, rows in clients.items() if index in rows)
    model = None
    if args.model:
        from fedlab import models

        model = models.load(args.model, trust_model=args.trust_model)
    windows = _squad_arguments.make_windows(args, [question], model)
    result = {
        "index": index,
        "num_questions": len(questions),
        "id": question.question_id,
        "title": question.title,
        "client_id": client_id,
        "client_questions": len(clients[client_id]),
        "question": question.question,
        "answers": [answer._asdict() for answer in dict.fromkeys(question.answers)],
        "question_tokens": int(windows.question_tokens.lengths[0]),
        "context_tokens": int(windows.context_tokens.lengths[windows.context_of[0]]),
        "windows": windows.num_windows,
        "max_length": windows.max_length,
        "context": question.context,
    }
    if model is not None:
        # If some questions have no answer, "no answer" is allowed for every question.
        result["model"] = model_answer(
            model, windows, null_threshold=None if all(q.answers for q in questions) else 0.0
        )
    return result


def model_answer(
    model: "tf.keras.Model", windows: "Windows", null_threshold: float | None
) -> dict[str, Any]:
    """Returns a model's answer to the only question of these windows."""
    from fedlab.tasks.question_answering import scores as squad
    from fedlab.tasks.question_answering import spans

    question = windows.questions[0]
    [[best, *_]] = spans.answers(
        windows, spans.logits(model, windows), null_threshold=null_threshold
    )
    [score] = squad.scores(
        [question],
        {question.question_id: best.text},
        version="1.1" if null_threshold is None else "2.0",
    )
    found = {
        "answer": best.text,
        "start": best.start,
        "end": best.end,
        "score": best.score,
        "probability": best.probability,
    }
    return {**found, "exact_match": score.exact_match, "f1": score.f1}


def text(result: dict[str, Any]) -> str:
    """Returns the description as lines of text."""
    answers = [
        f"{answer['text']!r}, characters {start} to {start + len(answer['text'])}"
        for answer in result["answers"]
        for start in [answer["start"]]
    ]
    tokens = (
        f"{result['question_tokens']} of the question, {result['context_tokens']} of the context"
    )
    windows = result["windows"]
    windows = f"{windows} window{'s' * (windows > 1)} of {result['max_length']}"
    lines = [
        ("question", result["question"]),
        ("expected", "; ".join(answers) or "the context has no answer"),
        ("client", f"{result['client_id']} ({result['client_questions']} questions)"),
        ("tokens", f"{tokens}; {windows}"),
        ("number", f"{result['index']} of {result['num_questions']}, id {result['id']}"),
    ]
    if "model" in result:
        found = result["model"]
        place = (
            f"{found['answer']!r}, characters {found['start']} to {found['end']}"
            if found["answer"]
            else "no answer"
        )
        scores = f"score {found['score']:.3f}, probability {found['probability']:.4f}"
        lines.insert(
            2,
            (
                "model",
                f"{place}; {scores}; exact match {found['exact_match']:.0f}, F1 {found['f1']:.3f}",
            ),
        )
    if others := result.get("other_matches"):
        lines.append(
            (
                "also",
                f"{len(others)} more: "
                f"{', '.join(map(str, others[:10]))}"
                f"{', ...' * (len(others) > 10)}",
            )
        )
    context = [
        line for part in result["context"].splitlines() for line in textwrap.wrap(part, 110) or [""]
    ]
    return "\n".join([*(f"{name:<10}{value}" for name, value in lines), "", *context])
