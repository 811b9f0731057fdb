"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import zipfile
import zlib

DAMAGE = (
    *(
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        MemoryError,
    ),
    *(zipfile.BadZipFile, zlib.error),
)
"""What NumPy and zipfile raise at an archive's bytes that are others than those that were written."""


def write(file, *parts):
    """Writes bytes to a file so that it holds either the old or the new ones, also after a crash; a failure leaves nothing behind.

    Args:
      file: the path.
      parts: what the file holds, one after the other: bytes, or anything with a buffer.
    """
    file = pathlib.Path(file)
    with (
        published(file.with_name(f"{file.name}.tmp"), file) as temporary,
        open(temporary, "wb") as out,
    ):
        for part in parts:
            out.write(part)


@contextlib.contextmanager
def published(temporary, file):
    """Within it `temporary`, a path in the same folder, is to be written; then it gets the name `file`. A failure leaves nothing behind.

    The bytes are on disk before the name is, and both are at the end.
    """
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, file)
        _sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(what, remedy):
    """Within it, what the system says of a path becomes one line of the same kind; a full or broken disk stays what it is.

    Args:
      what: what was received, such as "run_dir=runs/first".
      remedy: what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NAMES:  # Python has no class for them
            raise ValueError(f"{what:.300}: {error.strerror}; {remedy}.") from None
        if error.errno is None or type(error) is OSError:
            raise
        raise type(error)(f"{what:.300}: {error.strerror}; {remedy}.") from None


_NAMES = {errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EINVAL, errno.EEXIST}


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
