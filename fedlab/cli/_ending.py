"""How a command ends: exit codes, one-line errors, and signals."""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator

from fedlab import _interrupted
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
"""What the library raises for wrong values, paths or installations."""

# Errors about paths for which Python has no class of their own.
_PATHS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EEXIST}


def fail(error: BaseException) -> int:
    """Prints an error as one line and returns the exit code: 2 for wrong input, else 1."""
    print(f"fedlab: error: {visible(_one_line(error))}", file=sys.stderr)
    return 2 if _is_mistake(error) else 1


def interrupted(error: KeyboardInterrupt, run_dir_flag: str | None = "--run_dir") -> int:
    """Prints which round of a simulation is saved and how to resume. Returns the exit code.

    Args:
      error: what Ctrl-C has raised.
      run_dir_flag: the flag that names the run folder, or None.
    """
    print(f"fedlab: {visible(_interrupted.line(error, run_dir_flag))}", file=sys.stderr)
    return 128 + signal.SIGINT


def debugging() -> bool:
    """Returns whether errors are shown with a traceback."""
    return os.environ.get("FEDLAB_DEBUG", "0") != "0"


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """A context in which SIGTERM raises SystemExit, so that files are closed; exit code 143."""

    def end(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    # Only the main thread can set handlers, and a handler of the parent is not
    # replaced.
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


def _is_mistake(error: BaseException) -> bool:
    return isinstance(error, MISTAKES) or (isinstance(error, OSError) and error.errno in _PATHS)


def _one_line(error: BaseException) -> str:
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    if isinstance(error, OSError) and error.filename is not None and _is_mistake(error):
        path = os.fsdecode(error.filename if error.filename2 is None else error.filename2)
        message = f"{path!r:.200}: {error.strerror}; check the path, or give another."
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    # A plain OSError, as for a full disk, comes with its remedy.
    if not lines or not (_is_mistake(error) or type(error) is OSError):
        first = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return f"{first} (FEDLAB_DEBUG=1 shows where)"
    return lines[0] if len(lines) == 1 else f"{lines[0]} (FEDLAB_DEBUG=1 shows the rest)"
