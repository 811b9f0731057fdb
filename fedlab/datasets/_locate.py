"""Files of data sets: found in a folder or the cache, or downloaded."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedlab import _cache, _checks
from fedlab._download import download


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
