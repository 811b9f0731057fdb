"""Pictures in files: decoded, scaled and cropped."""

import pathlib

import numpy as np

from fedlab import _extras
from fedlab.datasets import _archives


def read(file: pathlib.Path, size: int, *, crop: bool = False) -> np.ndarray:
    """Returns a picture in a JPEG or PNG file as uint8 [size, size, 3].

    Args:
      file: the file.
      size: height and width.
      crop: whether to cut `size` x `size` pixels out of the center, after enlarging a
        picture that is smaller; otherwise the whole picture is scaled.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, or not a picture.
      ModuleNotFoundError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise _extras.error("pictures need", "PIL") from None
    with _archives.readable(file, "a picture"), Image.open(file) as opened:
        picture = opened.convert("RGB")
        if not crop:
            return np.asarray(picture.resize((size, size)))
        least = min(picture.size)
        if least < size:
            width, height = (max(size, round(side * size / least)) for side in picture.size)
            picture = picture.resize((width, height))
        left, top = ((side - size) // 2 for side in picture.size)
        return np.asarray(picture.crop((left, top, left + size, top + size)))
