"""Types of arguments and groups of options that several subcommands share.

Imports nothing slow.
"""

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedlab import ClientData

SPLITS = ("train", "test")


def positive_int(text: str) -> int:
    """The argparse type for an integer of at least 1."""
    return _int(text, 1)


def non_negative_int(text: str) -> int:
    """The argparse type for an integer of at least 0."""
    return _int(text, 0)


def positive_float(text: str) -> float:
    """The argparse type for a finite number above 0."""
    return _float(text, lambda value: value > 0, "a number above 0")


def fraction(text: str) -> float:
    """The argparse type for a number of at least 0 and below 1."""
    return _float(text, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")


def int_of(minimum: int, maximum: int) -> Callable[[str], int]:
    """Returns the argparse type for an integer between two bounds."""
    return lambda text: _int(text, minimum, maximum)


def _float(text: str, allowed: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and allowed(value)):
        raise argparse.ArgumentTypeError(f"{text!r:.100}: expected {expected}")
    return value


def _int(text: str, minimum: int, maximum: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if value < minimum or (maximum is not None and value > maximum):
        bounds = f"of at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
        raise argparse.ArgumentTypeError(f"{text!r:.100}: expected an integer {bounds}")
    return value


def add_model(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Adds --model and --trust_model."""
    parser.add_argument(
        "--model",
        required=required,
        metavar="NAME_OR_PATH",
        help="a shipped model, or the path or http(s) address of a Keras model",
    )
    add_trust_model(parser)


def add_trust_model(parser: argparse.ArgumentParser) -> None:
    """Adds --trust_model."""
    parser.add_argument(
        "--trust_model",
        action="store_true",
        help="load a model file even if it can execute Python code",
    )


def add_data(parser: argparse._ActionsContainer, split: bool = True) -> None:
    """Adds the options for data: --source, --path, --split (if `split`), --num_clients."""
    parser.add_argument(
        "--source",
        help="the source of the data, such as synthetic (default: that of the data set's load())",
    )
    parser.add_argument(
        "--path",
        help="the folder with the source's files, instead of packaged or downloaded files",
    )
    if split:
        parser.add_argument(
            "--split",
            choices=SPLITS,
            default="test",
            help="the part of each client's data to read (default: test)",
        )
    parser.add_argument(
        "--num_clients",
        type=int_of(1, 100_000),
        default=10,
        metavar="N",
        help="number of clients of --source=synthetic (default: 10)",
    )


def load_data(dataset: str, args: argparse.Namespace) -> "ClientData":
    """Returns the data that the options of `add_data` select."""
    return load_splits(dataset, args)[SPLITS.index(args.split)]


def load_splits(dataset: str, args: argparse.Namespace) -> "tuple[ClientData, ClientData]":
    """Returns the training data and the test data that the options of `add_data` select."""
    import inspect

    from fedlab import datasets

    module = datasets.get(dataset)
    if args.source is None:
        args.source = inspect.signature(module.load).parameters["source"].default
    if args.source == "synthetic":
        if args.path is not None:
            raise ValueError(
                f"--path={args.path}: expected no path with --source=synthetic, which reads no file"
            )
        return module.synthetic(num_clients=args.num_clients)
    return module.load(args.source, path=args.path)
