"""Files of data sets: found in a folder or the cache, or downloaded.

Neither pooch nor `keras.utils.get_file` resumes a download that broke off, which the
larger files (StackOverflow has several GB) need. The rest is done as they do it.
"""

import bz2
import contextlib
import functools
import gzip
import hashlib
import json
import logging
import lzma
import os
import pathlib
import shutil
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import filelock
import tqdm

from fedlab import _cache, _checks, _files

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a transfer that breaks off is resumed before the download fails."""

_CHUNK = 2**18
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".lzma": lzma.open}


class File(NamedTuple):
    """A file that a data set is made of.

    Attributes:
      name: the file's name, in the cache and in a folder that the user passes.
      url: where it is published.
      checksum: "sha256:<digits>" or "md5:<digits>" as published, or None where nobody
        publishes one. Then the data set checks what the file contains.
    """

    name: str
    url: str
    checksum: str | None = None


def check_source(
    source: str, sources: Sequence[str], path: Any, *, needs_path: Sequence[str] = ("npm",)
) -> None:
    """Checks the arguments `source` and `path` of a data set's `load`.

    Args:
      source: the argument.
      sources: the allowed ones.
      path: the argument.
      needs_path: the sources that have no default path.

    Raises:
      ValueError: the source is unknown, or does not fit the path.
    """
    if source not in sources:
        raise ValueError(
            f"source={source!r}: expected one of {', '.join(sources)}; check the spelling"
        )
    if source == "synthetic" and path is not None:
        raise ValueError(
            f"path={str(path)!r}: expected None with source='synthetic', which reads no file"
        )
    if source in needs_path and path is None:
        raise ValueError(f"path=None: expected the folder of the files for source={source!r}")
    if path is not None and not isinstance(path, (str, os.PathLike)):
        raise _checks.type_error("path", path, "the path of a folder")


def find(
    file: File,
    dataset: str,
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    names: tuple[str, ...] = (),
) -> pathlib.Path:
    """Returns the path of a file: in the given folder, in the cache, or downloaded to it.

    Args:
      file: the file.
      dataset: the data set's name, for messages and as the cache's subfolder.
      path: a folder with the file, or the file itself. With None, the cache is used.
      cache_dir: see `fedlab._cache.folder`.
      names: other names that the file may have, such as that of the decompressed file.

    Raises:
      FileNotFoundError: `path` does not have the file.
      ConnectionError: the file could not be downloaded; the message says where to put it.
      ValueError: the downloaded file does not have the published checksum.
    """
    accepted = (*names, file.name)
    if path is not None:
        return given(path, accepted, dataset)
    folder = _cache.folder(cache_dir) / dataset
    for name in accepted:
        if (folder / name).is_file():
            return folder / name
    remedy = (
        f"download it in another way and put it at {folder / file.name}, or pass path= the folder "
        "that has it; source='synthetic' needs no file"
    )
    target = folder / file.name
    try:
        download(file.url, target, checksum=file.checksum)
    except ConnectionError as error:
        raise ConnectionError(
            f"{dataset}: could not download {file.url} ({error}); {remedy}"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise type(error)(
            f"{dataset}: could not write {target} ({reason}); pass cache_dir= a folder with "
            "enough space, or set FEDLAB_CACHE"
        ) from error
    return target


def given(path: str | os.PathLike, names: tuple[str, ...], dataset: str) -> pathlib.Path:
    """Returns the first of these files that exists in a folder, or `path` if it is a file.

    Raises:
      FileNotFoundError: there is none; the message lists the names.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_file():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    what = "expected a folder with" if path.is_dir() else "expected an existing folder with"
    raise FileNotFoundError(
        f"path={str(path)!r}: {what} {' or '.join(names)} ({dataset}); leave path out to use the "
        "cache or to download it"
    )


def download(
    url: str,
    file: str | os.PathLike,
    *,
    checksum: str | None = None,
    progress: bool | None = None,
    timeout_s: float = _cache.TIMEOUT_S,
) -> None:
    """Downloads `url` to `file`, completely or not at all, unless the file exists.

    A transfer that breaks off is resumed, in this call or in the next one, if the server
    says by an ETag or a date that its file is still the same. Several processes may
    download the same file: one does, the others wait for it.

    Args:
      url: an http or https address.
      file: the path; its folder is created.
      checksum: as in `File`.
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
                _check(part, checksum, url)
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
            _cache.connection_errors(),
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


def _check(file: pathlib.Path, checksum: str, url: str) -> None:
    algorithm, _, expected = checksum.partition(":")
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, algorithm).hexdigest()
    if found != expected:
        raise ValueError(
            f"{url}: the downloaded file has {algorithm} {found}: expected {expected}; try again, "
            "or get the file in another way and pass path="
        )


# ---- Compressed files and archives ----


def decompressed(file: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Returns `file` without compression: NAME for NAME.gz, NAME.bz2 or NAME.lzma.

    It is written to a folder once. Files without such an ending are returned as they are.

    Args:
      file: the file.
      folder: the folder to write to.

    Raises:
      ValueError: the file is damaged.
      OSError: the folder cannot be written to.
    """
    if file.suffix not in _OPENERS:
        return file
    plain = folder / file.stem
    if file.with_suffix("").is_file():
        return file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(plain.with_name(f".{plain.name}.lock")):
        if not plain.is_file():
            temporary = plain.with_name(f".{plain.name}.{os.getpid()}")
            with _files.published(temporary, plain), open(temporary, "wb") as out:
                with readable(file), opened(file) as packed:
                    shutil.copyfileobj(packed, out, 2**20)
    return plain


def opened(file: pathlib.Path) -> IO[bytes]:
    """Opens a file for reading; .gz, .bz2 and .lzma files are decompressed while reading."""
    return _OPENERS.get(file.suffix, open)(file, "rb")


def read(file: pathlib.Path) -> bytes:
    """Returns the decompressed content of a file.

    Raises:
      ValueError: the file is damaged.
    """
    with readable(file), opened(file) as stream:
        return stream.read()


def members(archive: pathlib.Path, names: Sequence[str]) -> dict[str, bytes]:
    """Returns the content of some files in a tar (also compressed) or zip archive.

    Nothing is extracted to the disk.

    Args:
      archive: the archive.
      names: their paths in the archive, or the ends of them after a "/".

    Returns:
      name -> content.

    Raises:
      ValueError: the archive is damaged, or does not have exactly one such file.
    """
    found: dict[str, list[bytes]] = {name: [] for name in names}
    with readable(archive):
        for path, read_file in _files_of(archive):
            for name in names:
                if f"/{path}".endswith(f"/{name}"):
                    found[name].append(read_file())
    for name, contents in found.items():
        if len(contents) != 1:
            raise ValueError(
                f"{str(archive)!r}: expected one file {name!r} in the archive, found "
                f"{len(contents)}; delete it and load again, or pass another path"
            )
    return {name: contents[0] for name, contents in found.items()}


def everything(archive: pathlib.Path) -> dict[str, bytes]:
    """Returns path -> content of all files in a tar (also compressed) or zip archive.

    Nothing is extracted to the disk.

    Raises:
      ValueError: the archive is damaged.
    """
    with readable(archive):
        return {path: read_file() for path, read_file in _files_of(archive)}


def _files_of(archive: pathlib.Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yields (path, function that reads it) for the files of an archive, in its order."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                if not entry.is_dir():
                    yield entry.filename, functools.partial(zipped.read, entry)
        return
    with tarfile.open(archive) as tar:
        for info in tar:
            if info.isfile():
                yield info.name, functools.partial(_read_tar, tar, info)


def _read_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    opened_file = tar.extractfile(info)
    assert opened_file is not None  # it is a file
    return opened_file.read()


@contextlib.contextmanager
def readable(file: pathlib.Path, expected: str = "") -> Iterator[None]:
    """A context in which errors of a damaged file are raised with a one-line message."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (*_files.DAMAGE, lzma.LZMAError, tarfile.TarError) as error:
        if str(error).startswith((repr(str(file)), f"{str(file)}:")):
            raise  # says it already
        # tarfile lists every compression that it has tried, in further lines.
        lines = str(error).splitlines() or [type(error).__name__]
        reason = lines[0].strip(": ")
        raise ValueError(
            f"{str(file)!r} is damaged or in another format ({reason:.120})"
            f"{expected and f': expected {expected}'}; delete it and load again, or pass another "
            "path"
        ) from error
