"""Processes that a test interrupts."""

import sys

_CODE = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def as_on_a_terminal(command):
    """A command that takes Ctrl-C, even where the tests run in the background, whose jobs start with it ignored."""
    return [sys.executable, "-c", _CODE, *command]
