"""Continues a text with a next-character model."""

import argparse

from fedlab.cli import _arguments, _data_files, _preprocessing

_EXAMPLE = """\
example:
  fedlab generate --model runs/letters/model.keras --prompt "Dear "

The characters are those that `fedlab train --text` has written next to the
model. For a model elsewhere, they are those of the data:

  fedlab generate --model model.keras --data letters.csv --client author \\
    --text letter --prompt "Dear "
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLE
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
    _data_files.add_file(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the prompt and its continuation."""
    import fedlab as fl
    from fedlab.models.loading import load

    _data_files.check_options(args)
    model = load(args.model, trust_model=args.trust_model)
    print(
        fl.generate(
            model,
            args.prompt,
            num_chars=args.num_chars,
            temperature=args.temperature,
            seed=args.seed,
            vocabulary=_vocabulary(args),
        )
    )


def _vocabulary(args: argparse.Namespace) -> str | None:
    """The characters of --data, or those that are written next to the model."""
    from fedlab.tasks.generation import text

    if args.data is None:
        return _preprocessing.of_model(args.model).characters or None
    if args.text is None:
        raise ValueError(
            f"--data={args.data}: expected --text=COLUMN as well, the column that the model was "
            "trained on; add it"
        )
    args.split = "train"
    return text.vocabulary(_data_files.read(args))
