"""Draws questions until enough are answered correctly, and records the draws in SQLite."""

import argparse
import json
import os
from typing import Any

from fedlab.cli import _arguments
from fedlab.tasks.question_answering.cli.squad import _arguments as _squad_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    _arguments.add_model(parser)
    parser.add_argument(
        "--database",
        required=True,
        metavar="FILE",
        help="the SQLite file; created if it does not exist",
    )
    parser.add_argument(
        "--num_correct",
        type=_arguments.positive_int,
        metavar="N",
        help="target number of exact answers (default: 100)",
    )
    parser.add_argument(
        "--max_draws",
        type=_arguments.positive_int,
        metavar="N",
        help="maximum number of draws (default: 10 times --num_correct)",
    )
    parser.add_argument(
        "--seed",
        type=_arguments.non_negative_int,
        metavar="N",
        help="seed of the draws (default: 0)",
    )
    parser.add_argument(
        "--replay",
        type=_arguments.positive_int,
        metavar="RUN_ID",
        help="repeat all draws of a recorded run",
    )
    parser.add_argument(
        "--name", help="name of the model's state in the file (default: as --model)"
    )
    _squad_arguments.add_questions(parser)
    _squad_arguments.add_windows(parser)
    parser.add_argument(
        "--batch_size",
        type=_arguments.positive_int,
        default=32,
        metavar="N",
        help="windows per step (default: 32)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> None:
    """Records the draws and prints the result."""
    from fedlab.tasks.question_answering import efficacy_database as database

    settings, recorded = _settings(args), None
    database.check(args.database)
    if args.replay is not None:
        recorded = database.read(args.database, args.replay)
        settings = recorded.settings
    questions = _squad_arguments.load_questions(args)

    from fedlab import models
    from fedlab.tasks.question_answering import efficacy

    digest = efficacy.questions_sha256(questions)
    if recorded is not None and recorded.questions_sha256 != digest:
        raise ValueError(
            f"--replay={args.replay}: expected the questions of run {args.replay}; pass its "
            "--source, --path, --version and --split"
        )
    model = models.load(args.model, trust_model=args.trust_model)
    windows = _squad_arguments.make_windows(args, questions, model, cache=True)
    # Questions without tokens have no window. Recorded indices are those in the file, as in
    # `fedlab squad show`.
    usable = {question.question_id for question in windows.questions}
    numbers = [i for i, question in enumerate(questions) if question.question_id in usable]
    if recorded is None:
        found = efficacy.measure(model, windows, **settings._asdict(), batch_size=args.batch_size)
    else:
        place = {number: i for i, number in enumerate(numbers)}
        if lost := [number for number, _ in recorded.draws if number not in place]:
            raise ValueError(
                f"question {lost[0]} of run {args.replay} has no tokens in this vocabulary: "
                "expected the vocabulary of that run"
            )
        found = efficacy.replay(
            model,
            windows,
            [place[number] for number, _ in recorded.draws],
            batch_size=args.batch_size,
        )
    found = found._replace(
        draws=[draw._replace(question=numbers[draw.question]) for draw in found.draws]
    )

    state = database.ModelState(
        efficacy.weights_sha256(model), args.name or args.model, _path(args.model)
    )
    question_set = database.QuestionSet(
        digest, args.source, args.version, args.split, len(questions)
    )
    run_id = database.record(args.database, state, question_set, settings, found.draws, args.replay)
    result = {
        "run_id": run_id,
        "model": state.name,
        "weights_sha256": state.weights_sha256,
        **settings._asdict(),
        "split": args.split,
        "num_questions": len(questions),
        "drawn": len(found.draws),
        "correct": found.reached,
        "accuracy": found.accuracy,
        "distinct_questions": len({draw.question for draw in found.draws}),
        "repeated": found.repeated,
        "database": args.database,
    }
    if recorded is not None:
        before, after = (
            sum(draws)
            for draws in (
                [right for _, right in recorded.draws],
                [draw.exact_match for draw in found.draws],
            )
        )
        gained = sum(
            draw.exact_match > right for draw, (_, right) in zip(found.draws, recorded.draws)
        )
        result["replay"] = {
            "of": args.replay,
            "correct_before": before,
            "gained": gained,
            "lost": before + gained - after,
        }
    print(json.dumps(result, ensure_ascii=False) if args.json else text(result))


def _settings(args):
    """Returns the settings of the draws, or None for a replay, which uses those of the run."""
    from fedlab.tasks.question_answering.efficacy_database import Settings

    given = [
        name for name in ("num_correct", "max_draws", "seed") if getattr(args, name) is not None
    ]
    if args.replay is not None:
        if given:
            raise ValueError(
                f"--{given[0]}: expected none with --replay={args.replay}, which repeats that "
                "run's draws"
            )
        return None
    from fedlab.tasks.question_answering.efficacy import MOST_DRAWS

    num_correct = args.num_correct or 100
    for name, value in (
        ("num_correct", num_correct),
        ("max_draws", args.max_draws or 10 * num_correct),
    ):
        if value > MOST_DRAWS:
            raise ValueError(
                f"--{name}={value}: expected 1 to {MOST_DRAWS}; the default of --max_draws is ten "
                "times --num_correct"
            )
    settings = Settings(args.seed or 0, num_correct, args.max_draws or 10 * num_correct)
    if settings.seed >= 2**63:
        raise ValueError(
            f"--seed={settings.seed}: expected 0 to {2**63 - 1}, which SQLite can hold"
        )
    return settings


def _path(model):
    """Returns a file's absolute path; names and addresses are unchanged."""
    return os.path.abspath(model) if os.path.exists(model) else model


def text(result: dict[str, Any]) -> str:
    """Returns the result as lines of text."""
    state = f"{result['model']}, weights {result['weights_sha256'][:12]}"
    drawn = (
        f"{result['drawn']:,} from the {result['num_questions']:,} questions of "
        f"{result['split']}, seed {result['seed']}"
    )
    correct = f"{result['correct']:,}; estimated exact match of the model {result['accuracy']:.4f}"
    lines = [("model", state), ("draws", drawn), ("correct", correct)]
    if "replay" in result:
        replay = result["replay"]
        lines.append(
            (
                "replay",
                f"of run {replay['of']}, {replay['correct_before']:,} correct: "
                f"{replay['gained']:,} gained, {replay['lost']:,} lost",
            )
        )
    elif result["correct"] < result["num_correct"]:
        lines.append(
            (
                "stopped",
                f"at {result['max_draws']:,} draws, before {result['num_correct']:,} correct "
                "answers",
            )
        )
    again = result["drawn"] - result["distinct_questions"]
    if again:
        most = ", ".join(
            f"{number} ({times} times)" for number, times in list(result["repeated"].items())[:5]
        )
        more = ", ..." if len(result["repeated"]) > 5 else ""
        lines.append(
            (
                "repeats",
                f"{again:,} draw{'s' * (again > 1)} of a question drawn before: {most}{more}",
            )
        )
    else:
        lines.append(("repeats", "no question was drawn twice"))
    lines.append(("recorded", f"as run {result['run_id']} in {result['database']}"))
    return "\n".join(f"{name:<10}{value}" for name, value in lines)
