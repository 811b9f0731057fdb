"""CelebA: photographs of faces; each celebrity is a client.

Features after `load`:

  x: [N, 84, 84, 3] float32, pixels in [0, 1]
  y: [N] int32, 1 if the face has the attribute, such as "smiling", else 0

Published counts, of celebrities with five or more pictures:

  split "clients": 8,408 / 935 celebrities, 180,429 / 19,859 pictures in train / test
  split "examples": 9,343 celebrities in both, 177,457 / 22,831 pictures

Sources:

  auto: the file of TensorFlow Federated, in `path` or downloaded (celeba.sqlite.lzma; no
    checksum is published, so the numbers of clients are compared).
  leaf: the folder `path` with LEAF's train/*.json and test/*.json, and with the pictures
    in img_align_celeba/. The attribute is that of the files.
  synthetic: `synthetic()` with its defaults.

Liu et al. 2015, "Deep Learning Face Attributes in the Wild"; by celebrity in Caldas et al.
2018, "LEAF: A Benchmark for Federated Settings". CelebA is for research that is not
commercial, and may not be redistributed. The model is `fedlab.models.celeba_cnn`.
"""

import functools
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from fedlab import _checks
from fedlab.clients.client_data import ClientData
from fedlab.datasets import _counts, _images, _locate, _pictures, _tff_files

SOURCES = ("auto", "leaf", "synthetic")
SIZE = 84
NUM_CLIENTS = {
    "clients": {"train": 8408, "test": 935},
    "examples": {"train": 9343, "test": 9343},
}
_ATTRIBUTES = """
five_o_clock_shadow arched_eyebrows attractive bags_under_eyes bald bangs big_lips big_nose
black_hair blond_hair blurry brown_hair bushy_eyebrows chubby double_chin eyeglasses goatee
gray_hair heavy_makeup high_cheekbones male mouth_slightly_open mustache narrow_eyes no_beard
oval_face pale_skin pointy_nose receding_hairline rosy_cheeks sideburns smiling straight_hair
wavy_hair wearing_earrings wearing_hat wearing_lipstick wearing_necklace wearing_necktie young
"""
ATTRIBUTES = tuple(_ATTRIBUTES.split())


def load(
    source: str = "auto",
    *,
    path: str | os.PathLike | None = None,
    attribute: str = "smiling",
    split: str = "clients",
    cache_dir: str | os.PathLike | None = None,
) -> tuple[ClientData, ClientData]:
    """Loads the pictures of each celebrity, on first use.

    Args:
      source: "auto", "leaf" or "synthetic"; see the module.
      path: the folder with the source's files.
      attribute: one of `ATTRIBUTES`; for "auto".
      split: "clients" if train and test have different celebrities, "examples" if they
        have different pictures of the same; for "auto".
      cache_dir: the folder for downloads; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.

    Returns:
      (train, test).

    Raises:
      ValueError: a setting is unknown, or a file is damaged.
      FileNotFoundError, ModuleNotFoundError, ConnectionError: a file or a library is not
        available; the message says what to do.

    Example:
      >>> train, test = load()  # doctest: +SKIP
      >>> len(train), len(test)  # doctest: +SKIP
      (8408, 935)
    """
    _locate.check_source(source, SOURCES, path, needs_path=("leaf",))
    if attribute not in ATTRIBUTES:
        raise _checks.value_error("attribute", attribute, f"one of {', '.join(ATTRIBUTES)}")
    if split not in NUM_CLIENTS:
        raise _checks.value_error("split", split, "'clients' or 'examples'")
    if source == "synthetic":
        return synthetic()
    if source == "leaf":
        return _leaf(pathlib.Path(path or "").expanduser())
    parts = _tff_files.load(
        "celeba",
        {part: f"split_by_{split}_{part}" for part in ("train", "test")},
        sqlite="celeba.sqlite",
        hdf5={},
        path=path,
        cache_dir=cache_dir,
        shapes={"image": (SIZE, SIZE, 3)},
    )
    for part, clients in parts.items():
        published = NUM_CLIENTS[split][part]
        _counts.check_clients("celeba", part, clients, published, strict=path is None)
    fn = functools.partial(preprocess, attribute=attribute)
    return parts["train"].map(fn), parts["test"].map(fn)


def preprocess(
    columns: Mapping[str, np.ndarray], attribute: str = "smiling"
) -> dict[str, np.ndarray]:
    """Turns the columns of TFF's file into those of a model.

    Args:
      columns: image [n, 84, 84, 3], 0 to 255, and a column for each attribute.
      attribute: the attribute to predict.

    Returns:
      x and y; see the module.

    Example:
      >>> columns = {"image": np.full([1, 84, 84, 3], 51), "bald": np.array([1])}
      >>> float(preprocess(columns, "bald")["x"].max()), preprocess(columns, "bald")["y"]
      (0.20000000298023224, array([1], dtype=int32))
    """
    return _images.scaled({"x": columns["image"], "y": columns[attribute]})


def synthetic(
    num_clients: int = 10, seed: int = 0, *, num_examples: int = 12
) -> tuple[ClientData, ClientData]:
    """Generates a small data set of the same form, without reading any file.

    The two classes are patterns that all clients share. Clients differ in the frequencies
    of labels and in brightness.

    Args:
      num_clients: clients for training, 1 or more. A quarter as many others, at least
        one, are for testing.
      seed: client i is a pure function of (seed, i).
      num_examples: pictures per client, 1 or more.

    Returns:
      (train, test), which share no client.

    Example:
      >>> train, test = synthetic(num_clients=2)
      >>> train["celebrity_1"]["x"].shape, test.client_ids
      ((12, 84, 84, 3), ('celebrity_2',))
    """
    _checks.check_int("num_clients", num_clients)
    number = num_clients + max(1, num_clients // 4)
    made = _images.generated("celeba", number, seed, num_examples, (SIZE, SIZE, 3), 2)
    parts: tuple[dict, dict] = {}, {}
    for k, images in made.items():
        parts[k >= num_clients][f"celebrity_{k}"] = images._asdict()
    train, test = (ClientData.from_dict(part).map(_images.scaled) for part in parts)
    return train, test


def _leaf(folder: pathlib.Path) -> tuple[ClientData, ClientData]:
    pictures = folder / "img_align_celeba"
    for each in (folder / "train", folder / "test", pictures):
        if not each.is_dir():
            raise FileNotFoundError(
                f"path={str(folder)!r}: expected a folder with train and test, which LEAF makes, "
                f"and img_align_celeba, but there is no {each.name}"
            )

    def decoded(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = [_pictures.read(pictures / name, SIZE) for name in columns["x"].tolist()]
        return _images.scaled({"x": np.stack(x), "y": columns["y"]})

    train, test = (ClientData.from_leaf(folder / part) for part in ("train", "test"))
    return train.map(decoded), test.map(decoded)
