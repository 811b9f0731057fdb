"""Limits that stand for a disk without room."""

import contextlib
import resource


@contextlib.contextmanager
def files_of_at_most(size_bytes):
    """Within it, no file of this process grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
