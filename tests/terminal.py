"""Processes that a test interrupts or runs on a terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios

_CODE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def as_on_a_terminal(command):
    """The command with Ctrl-C enabled, which background jobs ignore."""
    return [sys.executable, "-c", _CODE, *command]


def run(command, columns, timeout=120, **options):
    """Runs a command on a pseudo-terminal of some width. Returns its exit code and output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    options["env"] = {k: v for k, v in options["env"].items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, **options
    )
    os.close(theirs)
    written = bytearray()
    try:
        while select.select([ours], [], [], timeout)[0]:
            try:
                written += os.read(ours, 65536)
            except OSError:  # all have closed it
                break
        return process.wait(timeout), written.decode()
    finally:
        process.kill()
        os.close(ours)
