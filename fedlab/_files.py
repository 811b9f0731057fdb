"""Files that are written whole or not at all."""

import os
import pathlib


def write(file, *parts):
    """Writes bytes to a file so that it holds either the old or the new ones, also after a crash; a failure leaves nothing behind.

    Args:
      file: the path.
      parts: what the file holds, one after the other: bytes, or anything with a buffer.
    """
    temporary = pathlib.Path(file).with_name(pathlib.Path(file).name + ".tmp")
    try:
        with open(temporary, "wb") as out:
            for part in parts:
                out.write(part)
        publish(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary, file):
    """Gives a complete file its name: its bytes are on disk before its name is, and both are when this returns."""
    _sync(temporary)
    os.replace(temporary, file)
    _sync(pathlib.Path(file).parent)


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
