"""How experiment scripts start: absl flags, one-line errors, and TensorFlow imported neither for --help nor too late."""

import logging
import os
import signal
import sys

from absl import app
from absl import logging as absl_logging

from fedlab.cli._ending import MISTAKES, debugging, ending_on_sigterm, fail


class UsageError(ValueError):
    """A mistake in a flag's value; the message says what is allowed."""


def run_with_flags(main):
    """`absl.app.run(main)`, importing TensorFlow between the parsing of flags and the call of `main`, and exiting as a command should.

    Before parsing, `--help` and a mistyped flag would wait seconds for TensorFlow. After absl's initialization, TensorFlow registers
    call-backs that then run at once, create its context while it is still half imported, and leave Keras building graph tensors.

    Exit codes: 0; 2 for a mistake in the input and 1 for a failure of the disk, which one line explains; 1 for anything else; 130 for
    Ctrl-C and 143 for SIGTERM, both of which end a run within one client's work.
    """

    def parse(argv):
        args = app.parse_flags_with_usage(argv)
        if len(args) > 1:
            sys.exit(fail(UsageError(f"unknown arguments {args[1:]}: every setting is a --flag; --help lists them.")))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow  # noqa: F401

        return args

    def run(argv):
        absl_logging.set_verbosity(absl_logging.INFO)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        try:
            with ending_on_sigterm():
                main()
        except (*MISTAKES, OSError) as error:
            if debugging():
                raise
            sys.exit(fail(error))
        except KeyboardInterrupt:
            print("fedlab: interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    app.run(run, flags_parser=parse)
