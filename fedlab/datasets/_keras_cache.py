"""Files that `keras.datasets` has downloaded before."""

import os
import pathlib


def file(*parts: str) -> pathlib.Path | None:
    """Returns a file or folder in the folder of `keras.datasets`, or None if there is none.

    The folder is $KERAS_HOME/datasets, by default ~/.keras/datasets.
    """
    try:
        home = os.environ.get("KERAS_HOME") or pathlib.Path("~/.keras").expanduser()
    except RuntimeError:  # the user has no home directory
        return None
    found = pathlib.Path(home, "datasets", *parts)
    return found if found.exists() else None
