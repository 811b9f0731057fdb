"""The `fedlab` command. A subcommand is a module of this package with `add_arguments(parser)` and `run(args)`.

Exit codes: 0; 2 for a mistake in what was asked for; 1 where the work failed; 130 for Ctrl-C; 141 where the reader of the output left.
"""

import argparse
import importlib
import os
import pkgutil
import signal
import sys

from fedlab import __version__

_NOT_COMMANDS = {"flags"}  # for experiment scripts; it imports absl, for which no --help should wait


def main(argv=None):
    """Runs the `fedlab` command.

    Args:
      argv: the arguments, without the program's name; by default those of the process.

    Returns:
      The exit code.
    """
    # Before TensorFlow is imported: its C++ part reads this only then.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes standard output once more at its end; there is nobody to read that either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("fedlab: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _run(argv):
    parser = argparse.ArgumentParser(prog="fedlab", description="Federated learning for Keras models.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fedlab {__version__}")
    add_commands(parser, __name__, command_names())
    args = parser.parse_args(argv)
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        return args.run(args) or 0
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("FEDLAB_DEBUG", "0") != "0":
            raise
        print(f"fedlab: error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, _MISTAKES) else 1


def add_commands(parser, package, names):
    """Adds the modules of a package as subcommands; a subcommand with subcommands of its own is a package that calls this too."""
    commands = parser.add_subparsers(metavar="COMMAND")
    for name in names:
        module = importlib.import_module(f"{package}.{name}")
        summary = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.set_defaults(run=module.run)
        module.add_arguments(command)


# What the library raises where a value, a path or an installation is not as it should be.
_MISTAKES = (ValueError, TypeError, KeyError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, ImportError)


def command_names():
    """The subcommands' names, sorted.

    Example:
      >>> command_names()
      ['aggregators', 'algorithms', 'datasets', 'evaluate', 'generate', 'squad']
    """
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if not name.startswith("_") and name not in _NOT_COMMANDS)


def _one_line(error):
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    if not isinstance(error, _MISTAKES) or not lines:
        first = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return f"{first} (FEDLAB_DEBUG=1 shows where)"
    return lines[0] if len(lines) == 1 else f"{lines[0]} (FEDLAB_DEBUG=1 shows the rest)"
