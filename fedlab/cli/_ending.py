"""How a command ends: its exit code, one line for an error, and signals."""

import contextlib
import errno
import os
import signal
import sys
import threading

from fedlab._text import visible

MISTAKES = (
    ValueError,
    TypeError,
    KeyError,
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
    ImportError,
)
"""What the library raises where a value, a path or an installation is not as it should be."""


_PATHS = {
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EROFS,
    errno.EEXIST,
}  # of a path too, but without a class of their own


def fail(error):
    """Prints an error as one line; returns the exit code: 2 for a mistake in what was asked for, 1 where the work failed."""
    print(f"fedlab: error: {visible(_one_line(error))}", file=sys.stderr)
    return 2 if _is_mistake(error) else 1


def debugging():
    """Whether errors are to be seen with their traceback."""
    return os.environ.get("FEDLAB_DEBUG", "0") != "0"


@contextlib.contextmanager
def ending_on_sigterm():
    """Within it, SIGTERM ends the process as Ctrl-C does, by an exception that closes what is open; the exit code is 143."""

    def end(signum, frame):
        raise SystemExit(128 + signum)

    # Only the main thread may decide; and who started us may want the signal ignored, or handle it already.
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_mistake(error):
    return isinstance(error, MISTAKES) or (isinstance(error, OSError) and error.errno in _PATHS)


def _one_line(error):
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    if (
        isinstance(error, OSError) and error.filename is not None and _is_mistake(error)
    ):  # in the system's words
        path = os.fsdecode(error.filename if error.filename2 is None else error.filename2)
        message = f"{path!r:.200}: {error.strerror}; check the path, or give another."
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    if not lines or not (
        _is_mistake(error) or type(error) is OSError
    ):  # which a full disk gives, with its remedy
        first = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return f"{first} (FEDLAB_DEBUG=1 shows where)"
    return lines[0] if len(lines) == 1 else f"{lines[0]} (FEDLAB_DEBUG=1 shows the rest)"
