"""Downloads that are complete or absent, and that are resumed.

Neither pooch nor `keras.utils.get_file` resumes a download that broke off, which the
larger files (StackOverflow has several GB) need. The rest is done as they do it.
"""

import contextlib
import hashlib
import http.client
import json
import logging
import os
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import filelock
import tqdm

from fedlab import _files

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0

ATTEMPTS = 3
"""How often a transfer that breaks off is resumed before the download fails."""

_CHUNK = 2**18


def download(
    url: str,
    file: str | os.PathLike,
    *,
    checksum: str | None = None,
    check: Callable[[pathlib.Path], object] | None = None,
    progress: bool | None = None,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Downloads `url` to `file`, completely or not at all, unless the file exists.

    A transfer that breaks off is resumed, in this call or in the next one, if the server
    says by an ETag or a date that its file is still the same. Several processes may
    download the same file: one does, the others wait for it.

    Args:
      url: an http or https address.
      file: the path; its folder is created.
      checksum: "sha256:<digits>" or "md5:<digits>" of the file.
      check: called with the path of the downloaded file before it is renamed to `file`.
        If it raises an exception, the file is discarded.
      progress: True for a bar on stderr, False for no output, None for a bar if stderr
        is a terminal.
      timeout_s: the longest wait for the connection and for each block of data.

    Raises:
      ConnectionError: the server cannot be reached, refuses, or closes the connection.
      ValueError: the file does not have the checksum. It is deleted.
      OSError: the file cannot be written.
    """
    file = pathlib.Path(file)
    if file.is_file():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    with filelock.FileLock(f"{part}.lock"):
        if file.is_file():
            return
        logger.info("downloading %s to %s", url, file)
        for attempt in range(ATTEMPTS):
            try:
                _transfer(url, part, progress, timeout_s)
                break
            except ConnectionError as error:
                if attempt == ATTEMPTS - 1 or not isinstance(error, _BrokenOff):
                    raise
                logger.info("%s; resuming", error)
        try:
            if checksum is not None:
                _compare(part, checksum, url)
            if check is not None:
                check(part)
            with _files.published(part, file):
                pass
        finally:
            part.unlink(missing_ok=True)
            _about(part).unlink(missing_ok=True)


class _BrokenOff(ConnectionError):
    """The server closed the connection before the end of the file."""


def _transfer(url: str, part: pathlib.Path, progress: bool | None, timeout_s: float) -> None:
    """Appends to `part` what it lacks of the file, or starts it again."""
    headers = {"User-Agent": "fedlab"}
    done, validator = _resumable(part, url)
    if validator:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator}
    request = urllib.request.Request(url, headers=headers)
    try:
        with (
            _connection_errors(),
            urllib.request.urlopen(request, timeout=timeout_s) as response,
        ):
            done, total = _from(response, done)
            _remember(part, url, response)
            with (
                open(part, "ab" if done else "wb") as opened,
                _bar(file_name(url), done, total, progress) as bar,
            ):
                while block := response.read(_CHUNK):
                    opened.write(block)
                    bar.update(len(block))
                    done += len(block)
    except ConnectionError as error:
        answer = error.__cause__
        if isinstance(answer, urllib.error.HTTPError):
            if answer.code != 416:  # the part is not shorter than the file
                raise
            part.unlink(missing_ok=True)
            raise _BrokenOff(str(error)) from error
        size = part.stat().st_size if part.is_file() else 0
        if size:
            raise _BrokenOff(f"{error}, after {size} bytes") from error
        raise
    if total is not None and done != total:
        if done > total:
            part.unlink()
        raise _BrokenOff(f"the server closed the connection after {done} of {total} bytes")


def file_name(url: str) -> str:
    """Returns the last part of an address.

    Example:
      >>> file_name("https://example.org/data/train.csv?v=1")
      'train.csv'
    """
    return pathlib.PurePosixPath(urllib.parse.urlparse(url).path).name


def _from(response: Any, done: int) -> tuple[int, int | None]:
    """Returns at which byte the response starts, and the size of the whole file if known."""
    length = response.headers.get("Content-Length")
    length = None if length is None else int(length)
    if response.status != 206:
        return 0, length
    # Content-Range: bytes 100-199/200
    unit, _, places = response.headers.get("Content-Range", "").partition(" ")
    start = places.partition("-")[0]
    if unit != "bytes" or not start.isdecimal() or int(start) != done:
        raise ConnectionError(
            f"the server answered with the range {places!r} instead of {done}-; try again"
        )
    return done, None if length is None else done + length


def _about(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(f"{part.name}.json")


def _remember(part: pathlib.Path, url: str, response: Any) -> None:
    """Stores how the server names this version of its file, to resume only the same."""
    etag = response.headers.get("ETag") or ""
    # A weak ETag does not promise equal bytes.
    validator = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
    validator = validator or response.headers.get("Last-Modified")
    _files.write(_about(part), json.dumps({"url": url, "validator": validator}).encode())


def _resumable(part: pathlib.Path, url: str) -> tuple[int, str | None]:
    """Returns (bytes that are there, the version that they are of), or (0, None)."""
    try:
        size, about = part.stat().st_size, json.loads(_about(part).read_bytes())
    except (OSError, ValueError):
        return 0, None
    if not isinstance(about, dict) or about.get("url") != url or not size:
        return 0, None
    validator = about.get("validator")
    return (size, validator) if isinstance(validator, str) and validator.isascii() else (0, None)


def _bar(name: str, done: int, total: int | None, progress: bool | None) -> tqdm.tqdm:
    hidden = not sys.stderr.isatty() if progress is None else not progress
    units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "dynamic_ncols": True}
    return tqdm.tqdm(desc=name, initial=done, total=total, disable=hidden, **units)


def _compare(file: pathlib.Path, checksum: str, url: str) -> None:
    algorithm, _, expected = checksum.partition(":")
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, algorithm).hexdigest()
    if found != expected:
        raise ValueError(
            f"{url}: the downloaded file has {algorithm} {found}: expected {expected}; try again, "
            "or get the file in another way and pass path="
        )


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """A context in which a connection's errors are raised as `ConnectionError`, in one line."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
