"""Compressed files and archives."""

import bz2
import contextlib
import functools
import gzip
import lzma
import os
import pathlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import filelock

from fedlab import _files

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".lzma": lzma.open}


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
