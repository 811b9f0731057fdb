"""The four IDX files of MNIST and of the data sets that replace it."""

import pathlib
from typing import NamedTuple

import numpy as np

from fedlab.datasets import _counts, _idx, _locate

_PARTS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMES = tuple(name for pair in _PARTS.values() for name in pair)
NUM_EXAMPLES = {"train": 60_000, "test": 10_000}


class Images(NamedTuple):
    """Images and their labels.

    Attributes:
      x: [n, height, width, channels] uint8.
      y: [n] integers.
    """

    x: np.ndarray
    y: np.ndarray


def in_folder(folder: pathlib.Path) -> dict[str, pathlib.Path] | None:
    """Returns name -> path of the four files, .gz or not; None if one is missing."""
    found = {}
    for name in NAMES:
        spellings = (name, name.replace("-idx", ".idx"))
        candidates = [folder / f"{each}{end}" for each in spellings for end in ("", ".gz")]
        found[name] = next((file for file in candidates if file.is_file()), None)
    complete = {name: file for name, file in found.items() if file is not None}
    return complete if len(complete) == len(NAMES) else None


def downloaded(
    dataset: str, base: str, checksums: dict[str, str], cache_dir
) -> dict[str, pathlib.Path]:
    """Returns name -> path of the four files in the cache, downloaded if necessary."""
    files = {
        name: _locate.File(f"{name}.gz", f"{base}{name}.gz", f"sha256:{checksums[name]}")
        for name in NAMES
    }
    return {name: _locate.find(file, dataset, cache_dir=cache_dir) for name, file in files.items()}


def read(files: dict[str, pathlib.Path]) -> dict[str, Images]:
    """Returns "train" and "test" of the four files.

    Raises:
      ValueError: a file is damaged, or does not have the published number of examples.
    """
    parts = {}
    for part, (images, labels) in _PARTS.items():
        x, y = _idx.read(files[images]), _idx.read(files[labels])
        _counts.check_images(files[images], x, y, (NUM_EXAMPLES[part], 28, 28), num_classes=10)
        parts[part] = Images(x[..., np.newaxis], y)
    return parts
