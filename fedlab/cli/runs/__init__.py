"""Lists, shows, compares and exports run folders.

Each module of this package is a subcommand; see `fedlab.cli`.
"""

import argparse

from fedlab import cli


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    cli.add_group(parser, __name__, __path__)
