"""How experiment scripts start: absl flags, one-line errors, and TensorFlow imported neither for --help nor too late."""

import contextlib
import logging
import math
import os
import pathlib
import re
import signal
import sys
import tempfile

from absl import app, flags
from absl import logging as absl_logging

from fedlab.cli._ending import MISTAKES, debugging, ending_on_sigterm, fail


class UsageError(ValueError):
    """A mistake in a flag's value; the message says what is allowed."""


def run_with_flags(main, check=None):
    """`absl.app.run(main)`, importing TensorFlow between the parsing of flags and the call of `main`, and exiting as a command should.

    Args:
      main: () -> None, the work.
      check: () -> anything, called once the flags are parsed: a mistake that it raises is told before anyone has waited for TensorFlow.

    Before parsing, `--help` and a mistyped flag would wait seconds for TensorFlow. After absl's initialization, TensorFlow registers
    call-backs that then run at once, create its context while it is still half imported, and leave Keras building graph tensors.

    Exit codes: 0; 2 for a mistake in the input, and 1 for a failure of the disk or of the run, such as rounds without a usable update, each
    explained in one line; 1 for anything else; 130 for Ctrl-C and 143 for SIGTERM, both of which end a run within one client's work.
    """

    def parse(argv):
        try:
            args = _parse(argv)
            if check is not None:
                check()
        except UsageError as error:
            sys.exit(fail(error))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow  # noqa: F401

        return args

    def run(argv):
        absl_logging.set_verbosity(absl_logging.INFO)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        try:
            with ending_on_sigterm():
                main()
        except (*MISTAKES, OSError, RuntimeError) as error:
            if debugging():
                raise
            sys.exit(fail(error))
        except KeyboardInterrupt:
            print("fedlab: interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    app.run(run, flags_parser=parse)


def check_folder(flag, path):
    """Raises UsageError where the folder for results can neither be written to nor made: before the work, not after it."""
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
            f"--{flag}={str(path):.200} cannot be written to ({error.strerror}): give another folder."
        ) from None


# What absl says of a value, and of a file, in the words of Python.
_ABSL = {
    r"invalid literal for int\(\).*": "allowed: an int.",
    r"could not convert string to float.*": "allowed: a number.",
    r"ERROR:: Unable to open flagfile: \[Errno \d+\]": "--flagfile cannot be read:",
}


def _parse(argv):
    """The arguments that are no flags: only the program's name.

    Raises:
      UsageError: another argument, or a flag that does not exist or has a wrong value.
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
        raise UsageError(
            f"unknown arguments {args[1:]}: every setting is a --flag; --help lists them."
        )
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(
            value
        ):  # which no bound of a flag excludes
            raise UsageError(f"--{name} is {value}; allowed: a finite number.")
    return args
