"""Federated CIFAR-100: photographs of 100 kinds of things, by Pachinko allocation.

Features after `load`:

  x: [N, 24, 24, 3] float32, the center of the image; mean 0 and variance 1 per image
  y: [N] int32, the fine label, 0 to 99

500 clients of 100 images for training. Other clients, "test_0" and so on, are for
testing.

Sources:

  auto: the file of TensorFlow Federated, in `path` or downloaded (cifar100.sqlite.lzma;
    no checksum is published, so the numbers of clients are compared): 100 test clients
    of 100 images. In `path`, fed_cifar100_train.h5 and fed_cifar100_test.h5 are read as
    well.
  binary: the binary version of the original files, in `path` or downloaded (169 MB),
    divided by a partitioner. The 10,000 test images are one client, "test".
  tfds: the same, prepared by tensorflow-datasets in the folder `path`; examples are in
    another order.
  synthetic: `synthetic()` with its defaults.

Reddi et al. 2020, "Adaptive Federated Optimization", appendix F: each client draws coarse
labels from a Dirichlet distribution (0.1), and fine labels of each from another (10);
`fedlab.clients.partitioners.pachinko`. Images are cropped to 24 x 24 pixels; the random
crops and flips of the training images are left out. The model is
`fedlab.models.resnet18`, with 10 clients per round, batches of 20 and one epoch.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import partitioners
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _cifar_files, _counts, _images, _locate, _tfds, _tff_files
from fedlab.datasets._locate import File
from fedlab.datasets._mnist_files import Images
from fedlab.datasets.cifar10 import preprocess

# The checksum that tensorflow-datasets has.
FILE = File(
    "cifar-100-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
SOURCES = ("auto", "binary", "tfds", "synthetic")
NUM_CLIENTS = {"train": 500, "test": 100}
NUM_CLASSES = 100
NUM_EXAMPLES = {"train": 50_000, "test": 10_000}
_NAMES = {"train": ("train.bin",), "test": ("test.bin",)}


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    partitioner: Any = None,
    crop: int = 24,
) -> tuple[ClientData, ClientData]:
    """Loads the images of each client.

    Args:
      source: "auto", "binary", "tfds" or "synthetic"; see the module.
      path: the folder with the source's files.
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      partitioner: which client has which image, for "binary" and "tfds"; see
        `fedlab.clients.partitioners`. The columns are x, y and coarse. By default
        Pachinko allocation to 500 clients of 100 images.
      crop: height and width of the center that is used, 1 to 32.

    Returns:
      (train, test), which share no client.

    Raises:
      ValueError: a setting is out of range, or a file is damaged or incomplete.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: a file or a library is not
        available; the message says what to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> len(train), len(test)  # doctest: +SKIP
      (500, 100)
    """
    _locate.check_source(source, SOURCES, path)
    _cifar_files.check_crop(crop)
    if partitioner is not None and source in ("auto", "synthetic"):
        raise ValueError(
            f"partitioner with source={source!r}: expected None, since its images are divided "
            "already; use source='binary'"
        )
    if source == "synthetic":
        return synthetic(crop=crop)
    to_model = functools.partial(preprocess, crop=crop)
    if source != "auto":
        parts, coarse = _arrays(source, path, cache_dir)
        if partitioner is None:
            partitioner = pachinko(parts["train"].y, coarse["train"])
        columns = parts["train"]._asdict() | {"coarse": coarse["train"]}
        train = partitioners.clients(columns, partitioner)
        test = ClientData.from_dict({"test": parts["test"]._asdict()})
        return train.map(to_model), test.map(to_model)
    clients = _tff_files.load(
        "cifar100",
        {"train": "train", "test": "test"},
        sqlite="cifar100.sqlite",
        hdf5={"train": "fed_cifar100_train.h5", "test": "fed_cifar100_test.h5"},
        path=path,
        cache_dir=cache_dir,
        shapes={"image": _cifar_files.SHAPE},
    )
    for part, each in clients.items():
        _counts.check_clients("cifar100", part, each, NUM_CLIENTS[part], strict=path is None)
    train, test = (clients[part].map(_renamed).map(to_model) for part in ("train", "test"))
    # The file uses the same ids for other clients in train and in test.
    return train, ClientData(
        [f"test_{client_id}" for client_id in test],
        lambda client_id: test[client_id.removeprefix("test_")],
    )


def pachinko(
    fine: np.ndarray, coarse: np.ndarray, num_clients: int = 500, seed: int = 0
) -> dict[str, np.ndarray]:
    """Divides images among clients as Reddi et al. did; their random numbers were others.

    Args:
      fine: [n], the fine label of each image.
      coarse: [n], the coarse label of each image.
      num_clients: 1 to n.
      seed: 0 or more.

    Returns:
      client_id -> rows.

    Example:
      >>> fine = np.arange(200) % 10
      >>> len(pachinko(fine, fine // 5, num_clients=4)["client_0"])
      50
    """
    parents = dict(zip(np.asarray(fine).tolist(), np.asarray(coarse).tolist()))
    return partitioners.pachinko(fine, num_clients=num_clients, parents=parents, seed=seed)


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 40, crop: int = 24
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    Classes are patterns that all clients share. Clients differ in the frequencies of
    labels and in brightness.

    Args:
      num_clients: clients for training, 1 or more. A quarter as many others, at least
        one, are for testing.
      seed: client i is a pure function of (seed, i).
      num_examples: images per client, 1 or more.
      crop: as in `load`.

    Returns:
      (train, test), which share no client.

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["2"]["x"].shape, test.client_ids
      ((40, 24, 24, 3), ('test_0',))
    """
    _checks.check_int("num_clients", num_clients)
    to_model = functools.partial(preprocess, crop=_cifar_files.check_crop(crop))
    parts = []
    for part, prefix, number in (
        ("train", "", num_clients),
        ("test", "test_", max(1, num_clients // 4)),
    ):
        made = _images.generated(
            "cifar100", number, seed, num_examples, _cifar_files.SHAPE, NUM_CLASSES, part
        )
        columns = {f"{prefix}{k}": images._asdict() for k, images in made.items()}
        parts.append(ClientData.from_dict(columns).map(to_model))
    train, test = parts
    return train, test


def _arrays(
    source: str, path: Any, cache_dir: Any
) -> tuple[dict[str, Images], dict[str, np.ndarray]]:
    """Returns the images with their fine labels, and their coarse labels."""
    if source == "tfds":
        found = _tfds.arrays("cifar100", path, ("image", "label", "coarse_label"))
        images = {part: Images(x, y) for part, (x, y, _) in found.items()}
        return images, {part: coarse for part, (_, _, coarse) in found.items()}
    read = _cifar_files.read(FILE, _NAMES, "cifar100", 2, path, cache_dir)
    images = {part: Images(x, labels[:, 1]) for part, (x, labels) in read.items()}
    for part, (x, y) in images.items():
        shape = (NUM_EXAMPLES[part], *_cifar_files.SHAPE)
        _counts.check_images(path or FILE.name, x, y, shape, NUM_CLASSES)
    return images, {part: labels[:, 0] for part, (_, labels) in read.items()}


def _renamed(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"x": columns["image"], "y": columns["label"]}
