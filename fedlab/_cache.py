"""The cache folder, for results and downloads that can be restored if they are lost."""

import contextlib
import hashlib
import http.client
import io
import logging
import os
import pathlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from fedlab import _files

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0


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


def download(
    url: str,
    file: str | os.PathLike,
    *,
    check: Callable[[pathlib.Path], object] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Downloads `url` to `file`, completely or not at all, unless the file exists.

    Args:
      url: an http or https address.
      file: the path; its folder is created.
      check: called with the path of the downloaded file before it is renamed to `file`.
        If it raises an exception, the file is discarded.
      timeout_s: the longest wait for the connection and for each block of data.

    Raises:
      ConnectionError: the server cannot be reached, refuses, or closes the connection.
      OSError: the file cannot be written.
    """
    file = pathlib.Path(file)
    if file.is_file():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "fedlab"})
    with _files.published(_temporary(file), file) as temporary:
        with open(temporary, "wb") as opened:
            _copy(request, opened, timeout_s)
        if check is not None:
            check(temporary)


def _temporary(file: pathlib.Path) -> pathlib.Path:
    """A path that only this process writes to."""
    return file.with_name(f".{file.name}.{os.getpid()}")


@contextlib.contextmanager
def connection_errors() -> Iterator[None]:
    """A context in which a connection's errors are raised as `ConnectionError`, in one line."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _copy(request: urllib.request.Request, opened: BinaryIO, timeout_s: float) -> None:
    with connection_errors(), urllib.request.urlopen(request, timeout=timeout_s) as response:
        shutil.copyfileobj(response, opened)
        expected = response.headers.get("Content-Length")
    if expected is not None and opened.tell() != int(expected):
        raise ConnectionError(
            f"the server closed the connection after {opened.tell()} of {expected} bytes"
        )
