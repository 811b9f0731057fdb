"""Google Landmarks v2: photographs of landmarks; each photographer is a client.

Features after `load`:

  x: [N, 128, 128, 3] float32, the center of the photograph, pixels in [-1, 1]
  y: [N] int32, the landmark

Published counts:

  version "23k": 233 photographers, 23,080 photographs for training, 203 landmarks
  version "160k": 1,262 photographers, 164,172 photographs for training, 2,028 landmarks

The photographs for testing are one client, "test".

Sources:

  auto: the index, which says who took which photograph of which landmark: in `path`, or
    downloaded (2 to 8 MB): mini_gld_train_split.csv and mini_gld_test.csv for "23k",
    landmarks-user-160k.zip or its federated_train.csv and test.csv for "160k". The
    photographs themselves (500 GB in all) are not downloaded: `images` is the folder that
    has them, as <id>.jpg or as a/b/c/abc....jpg.
  synthetic: `synthetic()` with its defaults.

`load_index` needs no photographs.

Weyand et al. 2020, "Google Landmarks Dataset v2"; by photographer in Hsu et al. 2020,
"Federated Visual Classification with Real-World Data Distribution", section 3.1. Images are
cropped as in TensorFlow Federated's baseline; its random crops and flips of the training
images are left out.
"""

import csv
import io
import os
import pathlib
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _archives, _counts, _images, _locate, _pictures, _tff_files
from fedlab.datasets._locate import File

SOURCES = ("auto", "synthetic")
SIZE = 128
NUM_CLIENTS = {"23k": 233, "160k": 1262}
NUM_CLASSES = {"23k": 203, "160k": 2028}
# The checksums are those in TensorFlow Federated's code.
_FILES = {
    "train": File(
        "mini_gld_train_split.csv",
        f"{_tff_files.URL}mini_gld_train_split.csv",
        "md5:9fd62cf79a67046fdd673d3a0ac52841",
    ),
    "test": File(
        "mini_gld_test.csv",
        f"{_tff_files.URL}mini_gld_test.csv",
        "md5:298e9d19d66357236f66fe8e22920933",
    ),
}
_ARCHIVE = File(
    "landmarks-user-160k.zip",
    "http://storage.googleapis.com/gresearch/federated-vision-datasets/landmarks-user-160k.zip",
    "md5:53c36bd7d5fc12f927af2820b7e4a57c",
)
_NAMES = {"train": "federated_train.csv", "test": "test.csv"}


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    images: str | os.PathLike | None = None,
    version: str = "23k",
    cache_dir: str | os.PathLike | None = None,
) -> tuple[ClientData, ClientData]:
    """Loads the photographs of each photographer, on first use.

    Args:
      source: "auto" or "synthetic"; see the module.
      path: the folder with the index.
      images: the folder with the photographs; by default the folder images in `path`.
      version: "23k" or "160k".
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.

    Returns:
      (train, test).

    Raises:
      ValueError: a setting is unknown, or a file is damaged.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: a file or a library is not
        available; the message says what to do.

    Example:
      >>> train, test = load(images="landmarks/train")  # doctest: +SKIP
      >>> len(train)  # doctest: +SKIP
      233
    """
    _locate.check_source(source, SOURCES, path)
    _check(version)
    if source == "synthetic":
        return synthetic()
    if images is None and path is not None:
        images = pathlib.Path(path) / "images"
    folder = None if images is None else pathlib.Path(images).expanduser()
    if folder is None or not folder.is_dir():
        shown = None if images is None else str(images)
        raise FileNotFoundError(
            f"images={shown!r}: expected the folder with the photographs of Google Landmarks v2 "
            "(train/0/0/0/000....jpg, or <id>.jpg), which are not downloaded because of their "
            "size; load_index() needs none"
        )

    def decoded(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        files = [_file(folder, image_id) for image_id in columns["image_id"].tolist()]
        pixels = np.stack([_pictures.read(file, SIZE, crop=True) for file in files])
        return _signed({"x": pixels, "y": columns["y"]})

    train, test = load_index(path=path, version=version, cache_dir=cache_dir)
    return train.map(decoded), test.map(decoded)


def load_index(
    *,
    path: str | os.PathLike | None = None,
    version: str = "23k",
    cache_dir: str | os.PathLike | None = None,
) -> tuple[ClientData, ClientData]:
    """Loads who took which photographs, without the photographs.

    Args, Raises: as in `load`.

    Returns:
      (train, test) with the columns image_id, [n] str, and y, [n] int32.

    Example:
      >>> train, test = load_index(version="160k")  # doctest: +SKIP
      >>> sum(map(train.num_examples, train))  # doctest: +SKIP
      164172
    """
    _check(version)
    files = _index_files(path, version, cache_dir)
    train = _read(*files["train"], "user_id", NUM_CLASSES[version])
    test = _read(*files["test"], None, NUM_CLASSES[version])
    _counts.check_clients("gldv2", "train", train, NUM_CLIENTS[version], strict=path is None)
    return train, test


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 8, num_classes: int = 8
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    Classes are patterns that all clients share. Clients differ in the frequencies of
    labels and in brightness.

    Args:
      num_clients: 1 or more.
      seed: client i is a pure function of (seed, i).
      num_examples: photographs per client, 1 or more; the client "test" has twice as many.
      num_classes: number of landmarks.

    Returns:
      (train, test).

    Example:
      >>> train, test = synthetic(num_clients=2)
      >>> train["client_1"]["x"].shape, test.client_ids
      ((8, 128, 128, 3), ('test',))
    """
    _checks.check_int("num_classes", num_classes)
    shape = (SIZE, SIZE, 3)
    return _images.synthetic("gldv2", num_clients, seed, num_examples, shape, num_classes, _signed)


def _check(version: str) -> None:
    if version not in NUM_CLIENTS:
        raise _checks.value_error("version", version, f"one of {', '.join(NUM_CLIENTS)}")


def _signed(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    scaled = _images.scaled(columns)
    return scaled | {"x": 2 * scaled["x"] - 1}


def _file(folder: pathlib.Path, image_id: str) -> pathlib.Path:
    name = f"{image_id}.jpg"
    flat, nested = folder / name, folder.joinpath(*image_id[:3], name)
    return flat if flat.is_file() else nested


def _index_files(path: Any, version: str, cache_dir: Any) -> dict[str, tuple[pathlib.Path, bytes]]:
    """Returns part -> (file, for messages; the content of the .csv file)."""
    folder = None if path is None else pathlib.Path(path).expanduser()
    if version == "23k":
        found = {
            part: _locate.find(file, "gldv2", path=folder, cache_dir=cache_dir)
            for part, file in _FILES.items()
        }
        return {part: (file, file.read_bytes()) for part, file in found.items()}
    if folder is not None and all((folder / name).is_file() for name in _NAMES.values()):
        return {
            part: (folder / name, (folder / name).read_bytes()) for part, name in _NAMES.items()
        }
    archive = _locate.find(
        _ARCHIVE, "gldv2", path=folder, cache_dir=cache_dir, names=(_NAMES["train"],)
    )
    members = _archives.members(archive, list(_NAMES.values()))
    return {part: (archive, members[name]) for part, name in _NAMES.items()}


def _read(file: pathlib.Path, data: bytes, client: str | None, num_classes: int) -> ClientData:
    """Reads image_id, class and, for training, user_id."""
    with _archives.readable(file, "UTF-8 text"):
        text = data.decode("utf-8-sig")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    needed = ("image_id", "class", *(() if client is None else (client,)))
    if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
        raise ValueError(
            f"{str(file)!r} has the columns {reader.fieldnames}: expected {', '.join(needed)}; "
            f"there is no {missing[0]}"
        )
    rows: dict[str, list[tuple[str, int]]] = {}
    for number, row in enumerate(reader, 2):
        label = row["class"]
        if not (label or "").isdecimal() or int(label) >= num_classes or not row["image_id"]:
            raise ValueError(
                f"{str(file)!r}, line {number}: image_id {row['image_id']!r:.40}, class "
                f"{label!r:.40}: expected an id, and a class from 0 to {num_classes - 1}"
            )
        owner = "test" if client is None else str(row[client])
        rows.setdefault(owner, []).append((row["image_id"], int(label)))
    if not rows:
        raise ValueError(f"{str(file)!r} has no rows: expected at least one; get the file again")
    clients = {}
    for owner, photographs in rows.items():
        ids, labels = zip(*photographs)
        clients[owner] = {"image_id": np.array(ids, object), "y": np.array(labels, np.int32)}
    return ClientData.from_dict(clients)
