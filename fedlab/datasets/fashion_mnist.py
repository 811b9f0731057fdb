"""Fashion-MNIST: images of clothes, divided among clients by a partitioner.

Features after `load`:

  x: [N, 28, 28, 1] float32, pixels in [0, 1]; 0 is the background
  y: [N] int32, the class, 0 to 9: `CLASSES`

60,000 images for training and 10,000 for testing, which are one client, "test".

Sources:

  auto: the four IDX files in `path`; without a path, those of the Debian package
    dataset-fashion-mnist, or of Keras's cache, and else they are downloaded.
  tfds: prepared by tensorflow-datasets in the folder `path`; examples are in another
    order.
  synthetic: `synthetic()` with its defaults.

Partitions and models as in `fedlab.datasets.mnist`.

Xiao et al. 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms".
"""

import os
import pathlib
from typing import Any

from fedlab.clients.client_data import ClientData
from fedlab.datasets import _images, _keras_cache, _locate, _mnist_files, _tfds

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CHECKSUMS = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
"""The SHA-256 checksums of the .gz files, as tensorflow-datasets has them."""
DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")
SOURCES = ("auto", "tfds", "synthetic")


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    partitioner: Any = None,
) -> tuple[ClientData, ClientData]:
    """Loads the images, and divides those for training among clients.

    Args:
      source: "auto", "tfds" or "synthetic"; see the module.
      path: the folder with the source's files.
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      partitioner: which client has which image; see `fedlab.clients.partitioners`. By
        default 100 clients with 600 random images each.

    Returns:
      (train, test).

    Raises:
      ValueError, FileNotFoundError, ModuleNotFoundError, ConnectionError: as
        `fedlab.datasets.mnist.load`.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> train["client_0"]["x"].shape  # doctest: +SKIP
      (600, 28, 28, 1)
    """
    _locate.check_source(source, SOURCES, path)
    if source == "synthetic":
        return synthetic()
    if source == "tfds":
        return _images.divided(_tfds.images("fashion_mnist", path), partitioner, _images.scaled)
    parts = _mnist_files.read(_files(path, cache_dir))
    return _images.divided(parts, partitioner, _images.scaled)


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 40
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    Args and Returns as in `fedlab.datasets.mnist.synthetic`.

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["client_2"]["x"].shape, test.client_ids
      ((40, 28, 28, 1), ('test',))
    """
    return _images.synthetic("fashion_mnist", num_clients, seed, num_examples, (28, 28, 1), 10)


def _files(path: Any, cache_dir: Any) -> dict[str, pathlib.Path]:
    if path is not None:
        files = _mnist_files.in_folder(pathlib.Path(path).expanduser())
        if files is None:
            raise FileNotFoundError(
                f"path={str(path)!r}: expected a folder with {', '.join(_mnist_files.NAMES)} (also "
                "as .gz); leave path out to use those of Debian's dataset-fashion-mnist, or to "
                "download them"
            )
        return files
    for folder in (DEBIAN, _keras_cache.file("fashion-mnist")):
        found = None if folder is None else _mnist_files.in_folder(folder)
        if found is not None:
            return found
    return _mnist_files.downloaded("fashion_mnist", URL, CHECKSUMS, cache_dir)
