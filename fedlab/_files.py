"""Atomic writes: a file is written completely or not at all."""

import contextlib
import errno
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

DAMAGE = (
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
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise when the bytes of an archive are damaged."""


def write(file: str | os.PathLike, *parts: Any) -> None:
    """Writes a file atomically.

    After a crash, the file has either the old or the new content. A failure leaves no
    temporary file behind.

    Args:
      file: the path.
      parts: the content in order: bytes, or objects that support the buffer protocol.
    """
    file = pathlib.Path(file)
    with (
        published(file.with_name(f"{file.name}.tmp"), file) as temporary,
        open(temporary, "wb") as out,
    ):
        for part in parts:
            out.write(part)


@contextlib.contextmanager
def published(temporary: pathlib.Path, file: pathlib.Path) -> Iterator[pathlib.Path]:
    """A context in which the caller writes `temporary`, which is then renamed to `file`.

    The content reaches the disk before the new name does, and both are on disk when the
    context ends. A failure leaves no temporary file behind.

    Args:
      temporary: a path in the same folder as `file`.
      file: the final path.
    """
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, file)
        sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """A context in which errors about a path are raised with a one-line message.

    Other errors, such as those of a full or broken disk, are not changed.

    Args:
      what: what was received, such as "run_dir=runs/first".
      remedy: what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NAMES:  # Python has no class for them
            raise ValueError(f"{what:.300}: {error.strerror}; {remedy}") from None
        if error.errno is None or type(error) is OSError:
            raise
        raise type(error)(f"{what:.300}: {error.strerror}; {remedy}") from None


_NAMES = {errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EINVAL, errno.EEXIST}


def sync(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
