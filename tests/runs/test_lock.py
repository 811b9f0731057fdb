"""Only one process at a time writes a run folder, and the lock ends with that process."""

import os
import subprocess
import sys

import pytest

from fedlab.runs.write.lock import hold

# Holds the lock given as argument, with a child process that outlives a kill.
PROGRAM = """
import os, pathlib, sys
from fedlab.runs.write.lock import hold
lock = hold(pathlib.Path(sys.argv[1]))
if not os.fork():
    # filelock closes its file in the child before os.fork returns.
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


def test_this_process_cannot_hold_a_lock_twice(tmp_path):
    lock = hold(tmp_path / "lock")
    with pytest.raises(ValueError, match=f"is in use by process {os.getpid()}: wait until"):
        hold(tmp_path / "lock")
    lock.release()
    hold(tmp_path / "lock").release()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_killed_process_frees_the_lock_although_its_child_lives(tmp_path):
    command = [sys.executable, "-c", PROGRAM, tmp_path / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        with pytest.raises(ValueError, match=f"is in use by process {process.pid}: wait until"):
            hold(tmp_path / "lock")
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        hold(tmp_path / "lock").release()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "other").write_text("data")
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic link"):
        hold(tmp_path / "lock")
    assert (tmp_path / "other").read_text() == "data"
