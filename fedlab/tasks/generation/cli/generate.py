"""Continues a text with a next-character model."""

import argparse

from fedlab.cli import _arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    _arguments.add_model(parser)
    parser.add_argument("--prompt", required=True, help="the text to continue")
    parser.add_argument(
        "--num_chars",
        type=_arguments.non_negative_int,
        default=300,
        metavar="N",
        help="characters to add (default: 300)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="0: the most likely character; 1 (default): the probabilities of the model",
    )
    parser.add_argument(
        "--seed",
        type=_arguments.non_negative_int,
        default=0,
        metavar="N",
        help="seed of the draws (default: 0)",
    )


def run(args: argparse.Namespace) -> None:
    """Prints the prompt and its continuation."""
    import fedlab as fl
    from fedlab.models.loading import load

    model = load(args.model, trust_model=args.trust_model)
    print(
        fl.generate(
            model,
            args.prompt,
            num_chars=args.num_chars,
            temperature=args.temperature,
            seed=args.seed,
        )
    )
