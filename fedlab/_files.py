"""Files that are written whole or not at all."""

import os
import pathlib


def write(file, data):
    """Writes bytes to a file so that it holds either the old or the new ones, also after a crash; a failure leaves nothing behind."""
    temporary = pathlib.Path(file).with_name(pathlib.Path(file).name + ".tmp")
    try:
        with open(temporary, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
