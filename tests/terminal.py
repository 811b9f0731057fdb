"""Processes that a test interrupts."""

import sys

_CODE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def as_on_a_terminal(command):
    """The command with Ctrl-C enabled, which background jobs ignore."""
    return [sys.executable, "-c", _CODE, *command]
