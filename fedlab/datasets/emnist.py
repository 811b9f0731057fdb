"""Federated EMNIST: handwritten characters; each writer is a client.

Features after `load`:

  x: [N, 28, 28, 1] float32, pixels in [0, 1]; 1 is the background, unlike in MNIST
  y: [N] int32, the character: 0-9 digits, 10-35 upper case, 36-61 lower case

Each writer's examples are divided into train and test. Published counts:

  task "characters": 3,400 writers, 671,585 / 77,483 examples, 62 classes
  task "digits": 3,383 writers, 341,873 / 40,832 examples, 10 classes

Sources:

  auto: the files of TensorFlow Federated, in `path` or downloaded (emnist_all.sqlite.lzma;
    no checksum is published, so the numbers of clients are compared). In `path`,
    fed_emnist_train.h5 and fed_emnist_test.h5 (fed_emnist_digitsonly_... for digits) are
    read as well.
  synthetic: `synthetic()` with its defaults.

Cohen et al. 2017, "EMNIST: an extension of MNIST to handwritten letters"; by writer in
Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings". The models are
`fedlab.models.emnist_cnn` (Reddi et al. 2020, "Adaptive Federated Optimization", appendix
B: 10 clients per round, batches of 20, one epoch) and those of `fedlab.datasets.mnist`.
"""

import os
from collections.abc import Mapping

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _counts, _images, _locate, _tff_files

SOURCES = ("auto", "synthetic")
NUM_CLIENTS = {"characters": 3400, "digits": 3383}
NUM_CLASSES = {"characters": 62, "digits": 10}
_SPLITS = {
    "characters": {"train": "all_train", "test": "all_test"},
    "digits": {"train": "digits_only_train", "test": "digits_only_test"},
}
_HDF5 = {
    "characters": {"train": "fed_emnist_train.h5", "test": "fed_emnist_test.h5"},
    "digits": {
        "train": "fed_emnist_digitsonly_train.h5",
        "test": "fed_emnist_digitsonly_test.h5",
    },
}


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    task: str = "characters",
    cache_dir: str | os.PathLike | None = None,
) -> tuple[ClientData, ClientData]:
    """Loads the images of each writer, on first use.

    Args:
      source: "auto" or "synthetic"; see the module.
      path: the folder with the source's files.
      task: "characters" or "digits".
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.

    Returns:
      (train, test), with the same clients.

    Raises:
      ValueError: a setting is unknown, or a file is damaged.
      FileNotFoundError, ConnectionError: a file is not available; the message says what
        to do.

    Example:
      >>> train, test = load(task="digits")  # doctest: +SKIP
      >>> len(train), len(test)  # doctest: +SKIP
      (3383, 3383)
    """
    _locate.check_source(source, SOURCES, path)
    _check_task(task)
    if source == "synthetic":
        return synthetic(task=task)
    parts = _tff_files.load(
        "emnist",
        _SPLITS[task],
        sqlite="emnist_all.sqlite",
        hdf5=_HDF5[task],
        path=path,
        cache_dir=cache_dir,
        shapes={"pixels": (28, 28)},
    )
    for part, clients in parts.items():
        _counts.check_clients("emnist", part, clients, NUM_CLIENTS[task], strict=path is None)
    return parts["train"].map(preprocess), parts["test"].map(preprocess)


def preprocess(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns the columns of TFF's files into those of a model.

    Args:
      columns: pixels [n, 28, 28] in [0, 1], and label [n].

    Returns:
      x and y; see the module.

    Example:
      >>> preprocess({"pixels": np.ones([2, 28, 28]), "label": np.array([3, 61])})["x"].shape
      (2, 28, 28, 1)
    """
    return {
        "x": columns["pixels"].astype(np.float32)[..., np.newaxis],
        "y": columns["label"].astype(np.int32),
    }


def synthetic(
    num_clients: int = 10, seed: int = 0, *, task: str = "characters", num_examples: int = 50
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    Classes are patterns that all clients share. Clients differ in the frequencies of
    labels and in brightness.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      task: "characters" (62 classes) or "digits" (10 classes).
      num_examples: images per client, 2 or more; the last fifth is for testing.

    Returns:
      (train, test), with the same clients.

    Example:
      >>> train, test = synthetic(num_clients=3)
      >>> train["writer_2"]["x"].shape, len(test["writer_2"]["y"])
      ((40, 28, 28, 1), 10)
    """
    _check_task(task)
    _checks.check_int("num_examples", num_examples, 2)
    made = _images.generated(
        f"emnist {task}", num_clients, seed, num_examples, (28, 28, 1), NUM_CLASSES[task]
    )
    num_test = max(1, num_examples // 5)
    rows = slice(None, -num_test), slice(-num_test, None)
    train, test = (
        {f"writer_{k}": {"x": x[part], "y": y[part]} for k, (x, y) in made.items()} for part in rows
    )
    return (
        ClientData.from_dict(train).map(_images.inverted),
        ClientData.from_dict(test).map(_images.inverted),
    )


def _check_task(task: str) -> None:
    if task not in NUM_CLIENTS:
        raise _checks.value_error("task", task, f"one of {', '.join(NUM_CLIENTS)}")
