"""The cache folder, for results and downloads that can be restored if they are lost."""

import hashlib
import io
import logging
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fedlab import _files

logger = logging.getLogger(__name__)


def folder(cache_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the folder for cached files.

    That is `cache_dir`, else $FEDLAB_CACHE, else $XDG_CACHE_HOME/fedlab, else
    ~/.cache/fedlab.

    Example:
      >>> folder("~/models") == pathlib.Path("~/models").expanduser()
      True
    """
    if cache_dir is None:
        cache_dir = os.environ.get("FEDLAB_CACHE") or None
    if cache_dir is None:
        cache_dir = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fedlab"
    return pathlib.Path(cache_dir).expanduser()


def arrays(
    name: str,
    key: Iterable[str],
    make: Callable[[], dict[str, np.ndarray]],
    *,
    check: Callable[[dict[str, np.ndarray]], object] | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> dict[str, np.ndarray]:
    """Returns the arrays that `make()` returns, from a file if it was called before.

    The file contains numbers only, no pickle. A damaged file is made again. If the
    folder cannot be written to, nothing is cached. Both events are logged.

    Args:
      name: the start of the file's name.
      key: everything that the result depends on. A hash of it completes the file's
        name.
      make: returns name -> array. No array has dtype object.
      check: called with the arrays of a file; raises an exception if they are damaged.
      cache_dir: see `folder`.
    """
    digest = hashlib.sha256()
    for part in key:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    try:
        file = folder(cache_dir) / f"{name}_{digest.hexdigest()[:32]}.npz"
    except RuntimeError:  # the user has no home directory
        return make()
    try:
        with np.load(file, allow_pickle=False) as archive:
            cached = dict(archive)
        if check is not None:
            check(cached)
        return cached
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # whatever is wrong with the file, it can be made again
        logger.warning("%s is damaged (%s); it will be made again", file, error)
    made: dict[str, Any] = make()
    packed = io.BytesIO()
    np.savez(packed, **made)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _files.published(_temporary(file), file) as temporary:
            temporary.write_bytes(packed.getbuffer())
    except OSError as error:
        logger.info("%s was not cached: %s", file, error)
    return made


def _temporary(file: pathlib.Path) -> pathlib.Path:
    """A path that only this process writes to."""
    return file.with_name(f".{file.name}.{os.getpid()}")
