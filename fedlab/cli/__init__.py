"""The `fedlab` command.

A subcommand is a module with `add_arguments(parser)` and `run(args)`, or a package of
such modules. Subcommands are found by name in this package and in the `cli` packages of
tasks, such as `fedlab.tasks.generation.cli`.

Exit codes: 0 for success, 1 for a failure, 2 for wrong input, 130 for Ctrl-C, 143 for
SIGTERM, 141 if the reader of the output has exited.
"""

import argparse
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from fedlab import __version__, tasks
from fedlab._checks import did_you_mean
from fedlab._text import visible
from fedlab.cli import _help
from fedlab.cli._ending import debugging, ending_on_sigterm, fail, interrupted
from fedlab.cli._startup import hide_messages_of_tensorflow

# For experiment scripts. It imports absl, which --help need not wait for.
_NOT_COMMANDS = {"flags"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `fedlab` command.

    Args:
      argv: the arguments without the program name; by default those of the process.

    Returns:
      The exit code.
    """
    hide_messages_of_tensorflow()
    if hasattr(sys.stdout, "reconfigure"):
        # So that paths that are not valid Unicode can be printed.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with ending_on_sigterm():
            code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes standard output again at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as error:
        return interrupted(error)


class _Parser(argparse.ArgumentParser):
    """A parser that reports wrong arguments in one line, without argparse's usage lines."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reports an unknown flag before a missing one, which it may be meant as."""
        flags = self._option_string_actions
        if not any(isinstance(each, argparse._SubParsersAction) for each in self._actions):
            for argument in sys.argv[1:] if args is None else args:
                if argument == "--":
                    break
                flag = argument.partition("=")[0]
                if flag.startswith("--") and flag not in flags:
                    self.error(f"unknown flag {flag:.100}{did_you_mean(flag, flags)}")
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise

    def error(self, message: str) -> NoReturn:
        line = visible(" ".join(message.split()))
        line += " " if line.endswith("?") else "; "
        self.exit(2, f"{self.prog}: error: {line}{self.prog} --help shows what is allowed.\n")


def _run(argv: Sequence[str] | None) -> int:
    parser = _Parser(
        prog="fedlab", description="Federated learning for Keras models.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"fedlab {__version__}")
    add_commands(parser, _commands(), grouped=True)
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


def add_commands(
    parser: argparse.ArgumentParser, modules: Mapping[str, str], grouped: bool = False
) -> None:
    """Adds subcommands.

    Args:
      parser: the command's parser.
      modules: subcommand -> full name of its module.
      grouped: whether --help lists the commands in groups; see `_help`.
    """
    commands = parser.add_subparsers(metavar="COMMAND")
    summaries = {}
    for name, module_name in modules.items():
        module = importlib.import_module(module_name)
        summary = (module.__doc__ or "").splitlines()[0]
        summaries[name] = summary
        shown: dict[str, Any] = {} if grouped else {"help": summary}
        command = commands.add_parser(name, description=summary, allow_abbrev=False, **shown)
        # A group of commands has no run(); see add_group.
        command.set_defaults(run=getattr(module, "run", None))
        module.add_arguments(command)
    if grouped:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _help.grouped(summaries)


def add_group(parser: argparse.ArgumentParser, package: str, path: Iterable[str]) -> None:
    """Makes a command with subcommands, which are the modules of a package.

    Args:
      parser: the command's parser.
      package: the package's full name.
      path: its `__path__`.
    """
    names = _modules(path)
    add_commands(parser, {name: f"{package}.{name}" for name in names})
    message = f"expected one of the commands {', '.join(names)}"
    parser.set_defaults(run=lambda args: parser.error(message))


def command_names() -> list[str]:
    """Returns the sorted names of the subcommands.

    Example:
      >>> command_names()[:3]
      ['aggregators', 'algorithms', 'answer']
    """
    return [*_commands()]


def _commands() -> dict[str, str]:
    packages = [__name__, *(f"{tasks.__name__}.{task}.cli" for task in _modules(tasks.__path__))]
    found = {
        name: f"{package}.{name}"
        for package in packages
        for name in _modules(importlib.import_module(package).__path__)
    }
    return {name: found[name] for name in sorted(found) if name not in _NOT_COMMANDS}


def _modules(path: Iterable[str]) -> list[str]:
    names = (module.name for module in pkgutil.iter_modules(path))
    return sorted(name for name in names if not name.startswith("_"))
