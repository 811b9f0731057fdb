"""Compares what a file has with what was published about the data set."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from fedlab.clients.client_data import ClientData

logger = logging.getLogger(__name__)


def check_images(
    file: str | os.PathLike, x: np.ndarray, y: np.ndarray, shape: Sequence[int], num_classes: int
) -> None:
    """Checks images and labels.

    Args:
      file: their file, for the message.
      x: the images.
      y: the labels.
      shape: the published shape of all images, the number of images first.
      num_classes: labels are 0 to num_classes - 1.

    Raises:
      ValueError: something else than published.
    """
    remedy = "pass the complete published files"
    if x.shape != tuple(shape) or x.dtype != np.uint8:
        raise ValueError(
            f"{os.fspath(file)!r} has images {x.dtype} {list(x.shape)}: expected uint8 "
            f"{list(shape)}; {remedy}"
        )
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"{os.fspath(file)!r} has {len(x)} images, and labels {list(y.shape)}: expected one "
            f"label per image; {remedy}"
        )
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(
            f"{os.fspath(file)!r} has labels from {y.min()} to {y.max()}: expected 0 to "
            f"{num_classes - 1}; {remedy}"
        )


def check_clients(
    dataset: str, part: str, clients: ClientData, published: int, *, strict: bool
) -> None:
    """Compares the number of clients.

    Args:
      dataset, part: what they are, for the message.
      clients: the clients of the file.
      published: the number that was published.
      strict: whether another number is an error, as for downloaded files; otherwise it
        is logged, since users may have a part of a data set.

    Raises:
      ValueError: another number than published, if strict.
    """
    if len(clients) == published:
        return
    message = f"{dataset}: {part} has {len(clients):,} clients; {published:,} were published"
    if strict:
        raise ValueError(f"{message}; delete the file from the cache and load again")
    logger.warning("%s", message)
