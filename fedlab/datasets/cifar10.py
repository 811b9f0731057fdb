"""CIFAR-10: photographs of ten kinds of things, divided among clients by a partitioner.

Features after `load`:

  x: [N, 24, 24, 3] float32, the center of the image; mean 0 and variance 1 per image
  y: [N] int32, the class, 0 to 9: `CLASSES`

50,000 images for training and 10,000 for testing, which are one client, "test".

Sources:

  auto: the binary version of the files, in `path` or downloaded (170 MB).
  tfds: prepared by tensorflow-datasets in the folder `path`; examples are in another
    order.
  synthetic: `synthetic()` with its defaults.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", section 3: 100 clients of 500 images, IID, 24 x 24 crops; the random
flips, shifts and contrasts of its preprocessing are left out. Li et al. 2022, "Federated
Learning on Non-IID Data Silos" (`crop=32`):
`partitioners.dirichlet(num_clients=10, alpha=0.5, seed=0)`, and the model
`fedlab.models.lenet` (62,006 parameters). `fedlab.models.resnet18(10)` is larger.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlab.clients.client_data import ClientData
from fedlab.datasets import _cifar_files, _counts, _images, _locate, _tfds
from fedlab.datasets._locate import File
from fedlab.datasets._mnist_files import Images

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# The checksum that tensorflow-datasets has.
FILE = File(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
SOURCES = ("auto", "tfds", "synthetic")
NUM_EXAMPLES = {"train": 50_000, "test": 10_000}
_NAMES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    partitioner: Any = None,
    crop: int = 24,
) -> tuple[ClientData, ClientData]:
    """Loads the images, and divides those for training among clients.

    Args:
      source: "auto", "tfds" or "synthetic"; see the module.
      path: the folder with the source's files.
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      partitioner: which client has which image; see `fedlab.clients.partitioners`. By
        default 100 clients with 500 random images each.
      crop: height and width of the center that is used, 1 to 32.

    Returns:
      (train, test).

    Raises:
      ValueError: a setting is out of range, or a file is damaged or incomplete.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: a file or a library is not
        available; the message says what to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> train["client_0"]["x"].shape  # doctest: +SKIP
      (500, 24, 24, 3)
    """
    _locate.check_source(source, SOURCES, path)
    _cifar_files.check_crop(crop)
    if source == "synthetic":
        return synthetic(crop=crop)
    if source == "tfds":
        parts = _tfds.images("cifar10", path)
    else:
        found = _cifar_files.read(FILE, _NAMES, "cifar10", 1, path, cache_dir)
        parts = {part: Images(x, labels[:, 0]) for part, (x, labels) in found.items()}
        for part, (x, y) in parts.items():
            shape = (NUM_EXAMPLES[part], *_cifar_files.SHAPE)
            _counts.check_images(path or FILE.name, x, y, shape, len(CLASSES))
    return _images.divided(parts, partitioner, functools.partial(preprocess, crop=crop))


def preprocess(columns: Mapping[str, np.ndarray], crop: int = 24) -> dict[str, np.ndarray]:
    """Turns images and labels into the columns of a model.

    Args:
      columns: x: uint8 [n, 32, 32, 3], y: [n].
      crop: height and width of the center that is used, 1 to 32.

    Returns:
      x and y; see the module.

    Example:
      >>> x = np.zeros([2, 32, 32, 3], np.uint8)
      >>> preprocess({"x": x, "y": np.array([1, 9])})["x"].shape
      (2, 24, 24, 3)
    """
    x = _cifar_files.standardized(columns["x"], _cifar_files.check_crop(crop))
    return {"x": x, "y": columns["y"].astype(np.int32)}


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 40, crop: int = 24
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    Classes are patterns that all clients share. Clients differ in the frequencies of
    labels and in brightness.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      num_examples: images per client, 1 or more; the client "test" has twice as many.
      crop: as in `load`.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["client_2"]["x"].shape, test.client_ids
      ((40, 24, 24, 3), ('test',))
    """
    _cifar_files.check_crop(crop)
    return _images.synthetic(
        "cifar10",
        num_clients,
        seed,
        num_examples,
        _cifar_files.SHAPE,
        len(CLASSES),
        functools.partial(preprocess, crop=crop),
    )
