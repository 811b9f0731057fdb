"""The `fedlab` command.

A subcommand is a module with `add_arguments(parser)` and `run(args)`, or a package of such modules. It is found by its name in this package
or in the `cli` package of a task, such as `fedlab.tasks.generation.cli`.

Exit codes: 0; 2 for a mistake in what was asked for; 1 where the work failed; 130 for Ctrl-C; 143 for SIGTERM; 141 where the reader of the
output left.
"""

import argparse
import importlib
import os
import pkgutil
import signal
import sys

from fedlab import __version__, tasks
from fedlab._text import visible
from fedlab.cli._ending import debugging, ending_on_sigterm, fail

_NOT_COMMANDS = {
    "flags"
}  # for experiment scripts; it imports absl, for which no --help should wait


def main(argv=None):
    """Runs the `fedlab` command.

    Args:
      argv: the arguments, without the program's name; by default those of the process.

    Returns:
      The exit code.
    """
    # Before TensorFlow is imported: its C++ part reads this only then.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a path that is no Unicode is printed nevertheless
    try:
        with ending_on_sigterm():
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


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments; argparse would print all that there are before it."""

    def error(self, message):
        self.exit(
            2,
            f"{self.prog}: error: {visible(' '.join(message.split()))}; {self.prog} --help shows what is allowed.\n",
        )


def _run(argv):
    parser = _Parser(
        prog="fedlab", description="Federated learning for Keras models.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"fedlab {__version__}")
    add_commands(parser, _commands())
    args = parser.parse_args(argv)
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        return args.run(args) or 0
    except BrokenPipeError:
        raise
    except Exception as error:
        if debugging():
            raise
        return fail(error)


def add_commands(parser, modules):
    """Adds subcommands; `modules`: name -> the module's full name."""
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, module_name in modules.items():
        module = importlib.import_module(module_name)
        summary = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.set_defaults(
            run=getattr(module, "run", None)
        )  # that of a group says which commands it has
        module.add_arguments(command)


def add_group(parser, package, path):
    """Makes a subcommand of the modules of `package`, whose `__path__` is `path`: a command with subcommands of its own."""
    names = _modules(path)
    add_commands(parser, {name: f"{package}.{name}" for name in names})
    parser.set_defaults(
        run=lambda args: parser.error(f"give one of the commands {', '.join(names)}")
    )


def command_names():
    """The subcommands' names, sorted.

    Example:
      >>> command_names()
      ['aggregators', 'algorithms', 'answer', 'datasets', 'evaluate', 'explain', 'generate', 'report', 'runs', 'squad']
    """
    return [*_commands()]


def _commands():
    packages = [__name__, *(f"{tasks.__name__}.{task}.cli" for task in _modules(tasks.__path__))]
    found = {
        name: f"{package}.{name}"
        for package in packages
        for name in _modules(importlib.import_module(package).__path__)
    }
    return {name: found[name] for name in sorted(found) if name not in _NOT_COMMANDS}


def _modules(path):
    return sorted(
        module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")
    )
