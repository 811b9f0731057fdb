"""Command lines of experiment scripts: absl flags, one-line errors, and a late TensorFlow."""

import contextlib
import logging
import math
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from fedlab.cli._ending import MISTAKES, debugging, ending_on_sigterm, fail, interrupted
from fedlab.cli._startup import hide_messages_of_tensorflow


class UsageError(ValueError):
    """A wrong value of a flag; the message says what is expected."""


def run_with_flags(main: Callable[[], Any], check: Callable[[], Any] | None = None) -> None:
    """Runs `main` like `absl.app.run`, but imports TensorFlow between parsing and `main`.

    If TensorFlow were imported before parsing, `--help` and a mistyped flag would wait
    for it for seconds. If it were imported after absl's initialization, it would
    register callbacks that run immediately and create its context while it is only
    partly imported, and Keras would then build graph tensors.

    Exit codes: 0 for success; 2 for wrong input and 1 for a failure of the disk or of
    the run, such as rounds without a usable update, both with a one-line message; 1 for
    other errors; 130 for Ctrl-C and 143 for SIGTERM, after which a run stops within one
    client's work.

    Args:
      main: the work.
      check: called after the flags are parsed. UsageError and ModuleNotFoundError that it
        raises are reported before TensorFlow is imported.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            args = _parse(argv)
            hide_messages_of_tensorflow()
            if check is not None:
                check()
        except (UsageError, ModuleNotFoundError) as error:
            sys.exit(fail(error))
        import tensorflow  # noqa: F401

        return args

    def run(argv: Sequence[str]) -> None:
        absl_logging.set_verbosity(absl_logging.INFO)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        try:
            with ending_on_sigterm():
                main()
        except (*MISTAKES, OSError, RuntimeError) as error:
            if debugging():
                raise
            sys.exit(fail(error))
        except KeyboardInterrupt as error:
            sys.exit(interrupted(error, "--run_dir" if "run_dir" in flags.FLAGS else None))

    app.run(run, flags_parser=parse)


def check_folder(flag: str, path: str | os.PathLike) -> None:
    """Raises UsageError, before the work, if results cannot be written to a folder.

    The folder may not exist yet.
    """
    path = pathlib.Path(path)
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        finally:
            with contextlib.suppress(OSError):
                for folder in missing:
                    folder.rmdir()
    except OSError as error:
        raise UsageError(
            f"--{flag}={str(path):.200}: expected a writable folder ({error.strerror}); use another"
        ) from None


def check_engine(name: str) -> None:
    """Raises UsageError or ModuleNotFoundError, before the work, if an engine cannot run."""
    from fedlab import engines

    try:
        engines.find(name)
    except ValueError as error:
        raise UsageError(f"--engine={name}: {error}") from None


# Messages of absl, which quote Python's, and the words that replace them.
_ABSL = {
    r"invalid literal for int\(\).*": "expected an integer.",
    r"could not convert string to float.*": "expected a number.",
    r"ERROR:: Unable to open flagfile: \[Errno \d+\]": "--flagfile cannot be read:",
}


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags; returns the other arguments, which are only the program's name.

    Raises:
      UsageError: there is another argument, or a flag is unknown or has a wrong value.
    """
    try:
        args = flags.FLAGS(argv)
    except (flags.Error, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        for theirs, ours in _ABSL.items():
            message = re.sub(theirs, ours, message)
        raise UsageError(
            f"{message.rstrip('. ?')}; --help lists the flags and what is allowed."
        ) from None
    if len(args) > 1:
        raise UsageError(f"unknown arguments {args[1:]}: expected only --flags; --help lists them.")
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        # No bound of a flag excludes NaN.
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name}={value}: expected a finite number")
    return args
