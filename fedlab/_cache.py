"""Where files that can be had again are kept, and how they get there."""

import hashlib
import http.client
import io
import logging
import os
import pathlib
import shutil
import tempfile
import urllib.error
import urllib.request

import numpy as np

from fedlab import _files

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0


def folder(cache_dir=None):
    """The folder for cached files: `cache_dir`, else $FEDLAB_CACHE, else $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.

    Example:
      >>> folder("~/models") == pathlib.Path("~/models").expanduser()
      True
    """
    if cache_dir is None:
        cache_dir = os.environ.get("FEDLAB_CACHE") or None
    if cache_dir is None:
        cache_dir = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fedlab"
    return pathlib.Path(cache_dir).expanduser()


def arrays(name, key, make, *, cache_dir=None):
    """What `make()` returns, kept in a file of numbers only (no pickle) and read from it the next time.

    A file that is damaged is made again; a folder that cannot be written to means no
    caching. Both are logged.

    Args:
      name: what it is, the beginning of the file's name.
      key: str parts, everything that the result depends on; their hash is the rest of
        the name.
      make: () -> dict name -> array, none of objects.
      cache_dir: see `folder`.

    Returns:
      name -> array.
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
        with np.load(file, allow_pickle=False) as kept:
            return dict(kept)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # whatever is wrong with a cache, it can be made again
        logger.warning("%s is damaged (%s); it will be made again", file, error)
    made = make()
    packed = io.BytesIO()
    np.savez(packed, **made)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _files.write(file, packed.getbuffer())
    except OSError as error:
        logger.info("not cached, %s: %s", file, error)
    return made


def download(url, file, *, check=None, timeout_s=TIMEOUT_S):
    """Downloads `url` to `file`, all or nothing; does nothing where the file is there already.

    Args:
      url: an http or https address.
      file: where it goes; its folder is made.
      check: called with the path of what came, before it takes its place; what it
        raises is raised.
      timeout_s: longest wait for the connection and for each next piece.

    Raises:
      ConnectionError: the server cannot be reached, refuses, or breaks off.
      OSError: the file cannot be written.
    """
    file = pathlib.Path(file)
    if file.is_file():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "fedlab"})
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as opened:
            temporary = pathlib.Path(opened.name)
            _copy(request, opened, timeout_s)
            opened.flush()
            os.fsync(opened.fileno())
        if check is not None:
            check(temporary)
        os.replace(temporary, file)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _copy(request, opened, timeout_s):
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            shutil.copyfileobj(response, opened)
            expected = response.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    if expected is not None and opened.tell() != int(expected):
        raise ConnectionError(f"the server broke off after {opened.tell()} of {expected} bytes")
