"""Lists the federated algorithms: what each does, and its papers."""

import argparse

from fedlab.cli import _listing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds no arguments."""


def run(args: argparse.Namespace) -> None:
    """Prints the list."""
    _listing.show(_listing.listing("algorithms"))
