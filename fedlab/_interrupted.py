"""What a simulation says when Ctrl-C interrupts it."""

import contextlib
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Iterator

# The remedies of a script or notebook. A command has its own.
_CALL_AGAIN = "run the same call again to resume"
_PASS_RUN_DIR = "nothing is saved; pass run_dir= to be able to resume such a run"


@contextlib.contextmanager
def explained(
    path: pathlib.Path | None, rounds: int, last_saved: Callable[[], int | None]
) -> Iterator[None]:
    """A context in which Ctrl-C says which round is saved and how to resume.

    The KeyboardInterrupt gets a note, which Python prints below the traceback.

    Args:
      path: the run folder, or None.
      rounds: how many rounds the run has.
      last_saved: returns the last round that is saved, or None.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        saved = last_saved()
        if path is None:
            error.add_note(_PASS_RUN_DIR)
        elif saved is None:
            error.add_note(f"no round is saved in {path} yet; {_CALL_AGAIN}")
        else:
            error.add_note(f"round {saved} of {rounds} is saved in {path}; {_CALL_AGAIN}")
        raise


def line(error: KeyboardInterrupt, run_dir_flag: str | None = None) -> str:
    """Returns what a command says that Ctrl-C interrupted, in one line.

    Args:
      error: the interrupt.
      run_dir_flag: the command's flag for a run folder, or None.
    """
    for note in getattr(error, "__notes__", []):
        if note.endswith(_CALL_AGAIN):
            saved = note.removesuffix(_CALL_AGAIN)
            return f"interrupted: {saved}resume with: {command_line()}"
        if note == _PASS_RUN_DIR:
            more = f"; pass {run_dir_flag}=FOLDER to be able to resume such a run"
            return f"interrupted: nothing is saved{more if run_dir_flag else ''}"
    return "interrupted"


def command_line() -> str:
    """Returns the command that started this process, to be pasted into a shell."""
    program, *arguments = sys.orig_argv
    if arguments and os.path.basename(arguments[0]) == "fedlab":  # the installed command
        program, *arguments = "fedlab", *arguments[1:]
    return shlex.join([program, *arguments])
