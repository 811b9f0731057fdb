"""Paths to files of data, and their errors."""

import os
import pathlib
from typing import Any

from fedlab import _checks


def existing(path: Any, what: str, *, folder: bool | None = False) -> pathlib.Path:
    """Returns a path that exists.

    Args:
      path: the path.
      what: what is expected there, such as "a CSV file".
      folder: whether it is a folder; None for a file or a folder.

    Raises:
      TypeError: not a path.
      FileNotFoundError, IsADirectoryError, NotADirectoryError: nothing is there, or
        something else.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise _checks.type_error("path", path, f"the path of {what}")
    found = pathlib.Path(path).expanduser()
    shown = f"path={str(path)!r:.200}"
    try:
        is_folder, is_there = found.is_dir(), found.exists()
    except (OSError, ValueError):  # a name that is too long, or has a null character
        raise ValueError(f"{shown}: expected the path of {what}; check the path") from None
    if not is_there:
        raise FileNotFoundError(f"{shown}: expected {what}, but nothing is there; check the path")
    if folder is False and is_folder:
        raise IsADirectoryError(f"{shown}: expected {what}, but it is a folder; pass a file in it")
    if folder and not is_folder:
        raise NotADirectoryError(f"{shown}: expected {what}, but it is a file; pass its folder")
    return found
