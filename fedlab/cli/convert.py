"""Converts a model file between Keras 2 and Keras 3."""

import argparse

from fedlab.cli import _arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("source", metavar="IN", help="a .keras archive, HDF5 file or SavedModel")
    parser.add_argument("target", metavar="OUT", help="the .keras archive to write")
    parser.add_argument(
        "--to",
        choices=("keras2", "keras3"),
        help="the version of Keras that will load OUT (default: the one that did not save IN)",
    )
    _arguments.add_trust_model(parser)


def run(args: argparse.Namespace) -> None:
    """Writes the archive and prints its path."""
    from fedlab._text import visible
    from fedlab.models.convert import convert

    path = convert(args.source, args.target, args.to, trust_model=args.trust_model)
    print(visible(str(path)))
