"""Allows only one process at a time to write a run folder."""

import os
import pathlib

import filelock


def hold(path: pathlib.Path) -> filelock.BaseFileLock:
    """Locks a file until `release` is called or the process ends, even by SIGKILL.

    Args:
      path: the file. It is created if missing, is never removed, and names the process
        that held it last.

    Returns:
      The lock.

    Raises:
      ValueError: another process holds the lock, or this process does already.
      OSError: the file cannot be written or the file system has no locks.
    """
    # The fallback of filelock would outlive a killed process, so it is switched off.
    lock = filelock.FileLock(
        path, timeout=0, thread_local=False, fallback_to_soft=False, on_acquired=_write_pid
    )
    try:
        lock.acquire()
    except filelock.Timeout:
        pid = path.read_text(errors="replace").strip() or "unknown"
        raise ValueError(
            f"{path.parent} is in use by process {pid}: wait until that run ends or choose another "
            "run folder"
        ) from None
    return lock


def _write_pid(descriptor: int) -> None:
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
