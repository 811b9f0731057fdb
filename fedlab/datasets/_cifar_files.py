"""The binary files of CIFAR-10 and CIFAR-100, in a folder or in their archive.

    CIFAR-10:   label, 3,072 pixels      CIFAR-100:   coarse label, fine label, 3,072 pixels

The pixels are 1,024 of each color, row by row.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fedlab import _checks
from fedlab.datasets import _archives, _locate
from fedlab.datasets._locate import File

SHAPE = (32, 32, 3)
_PIXELS = 32 * 32 * 3


def read(
    file: File,
    names: Mapping[str, Sequence[str]],
    dataset: str,
    num_labels: int,
    path: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns part -> (images uint8 [n, 32, 32, 3], labels uint8 [n, num_labels]).

    Args:
      file: the archive.
      names: part -> the names of its files.
      dataset: the data set's name.
      num_labels: labels per image, which come first.
      path: a folder with the archive, or with the files in it; or the archive.
      cache_dir: see `fedlab._cache.folder`.

    Raises:
      FileNotFoundError, ConnectionError: as `_locate.find`.
      ValueError: a file is damaged.
    """
    wanted = [name for each in names.values() for name in each]
    folder = None if path is None else pathlib.Path(path).expanduser()
    if folder is not None and all((folder / name).is_file() for name in wanted):
        contents = {name: (folder / name, (folder / name).read_bytes()) for name in wanted}
    else:
        try:
            archive = _locate.find(file, dataset, path=path, cache_dir=cache_dir)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}; the extracted {wanted[0]} ... {wanted[-1]} can be there instead (the "
                "Python version of the files, which Keras caches, is not read: it can run code)"
            ) from None
        members = _archives.members(archive, wanted)
        contents = {name: (archive, members[name]) for name in wanted}
    parts = {}
    for part, each in names.items():
        records = [_records(*contents[name], num_labels) for name in each]
        rows = np.concatenate(records)
        images = rows[:, num_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts[part] = np.ascontiguousarray(images), rows[:, :num_labels]
    return parts


def _records(file: pathlib.Path, data: bytes, num_labels: int) -> np.ndarray:
    size = num_labels + _PIXELS
    if not data or len(data) % size:
        raise ValueError(
            f"{str(file)!r} has {len(data)} bytes: expected a multiple of {size}, the size of an "
            "image; delete it and load again, or pass another path"
        )
    return np.frombuffer(data, np.uint8).reshape(-1, size)


def standardized(x: np.ndarray, crop: int) -> np.ndarray:
    """Crops images and standardizes each: mean 0, variance 1.

    ```
    x = x[center crop]
    x = (x - mean(x)) / max(std(x), 1 / sqrt(number of values of an image))
    ```

    Args:
      x: uint8 [n, height, width, channels].
      crop: height and width afterwards.

    Returns:
      float32 [n, crop, crop, channels].

    Example:
      >>> standardized(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1), 2)[0, :, :, 0].round(3)
      array([[-1.213, -0.728],
             [ 0.728,  1.213]], dtype=float32)
    """
    top, left = ((size - crop) // 2 for size in x.shape[1:3])
    x = x[:, top : top + crop, left : left + crop].astype(np.float32)
    axes = (1, 2, 3)
    least = np.float32(1 / np.sqrt(np.prod(x.shape[1:])))
    x = x - x.mean(axis=axes, keepdims=True)
    return x / np.maximum(x.std(axis=axes, keepdims=True), least)


def check_crop(crop: int) -> int:
    """Returns `crop`, or raises ValueError if it is not between 1 and 32."""
    return _checks.check_int("crop", crop, 1, 32, "the size of an image")
