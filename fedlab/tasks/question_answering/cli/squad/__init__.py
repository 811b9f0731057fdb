"""Looks at SQuAD's questions, and at what a model makes of them.

A subcommand is a module of this package, as of `fedlab.cli`.
"""

from fedlab import cli


def add_arguments(parser):
    cli.add_group(parser, __name__, __path__)
