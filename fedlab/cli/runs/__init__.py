"""Looks at run folders: lists, shows, compares and exports them.

A subcommand is a module of this package, as of `fedlab.cli`.
"""

import pkgutil

from fedlab import cli


def add_arguments(parser):
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    cli.add_commands(parser, __name__, names)
    parser.set_defaults(run=lambda args: parser.error(f"give one of the commands {', '.join(names)}"))


def run(args):
    """Replaced by that of the subcommand."""
