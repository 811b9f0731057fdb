"""Encoded images as arrays, with Pillow."""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab import _checks, _extras

MODES = {"rgb": "RGB", "grayscale": "L", "rgba": "RGBA"}


def check_size(size: Any) -> tuple[int, int] | None:
    """Returns the argument `image_size`: None, or (height, width).

    Example:
      >>> check_size([28, 28])
      (28, 28)
    """
    if size is None:
        return None
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise _checks.value_error("image_size", size, "(height, width), such as (32, 32)")
    height, width = (_checks.check_int("image_size", side, 1, 2**14) for side in size)
    return height, width


def check_color(color: Any) -> str:
    """Returns the argument `color` if it is known."""
    if color not in MODES:
        raise _checks.value_error("color", color, ", ".join(map(repr, MODES)))
    return color


def decode(
    source: "bytes | str | os.PathLike",
    owner: str,
    *,
    size: tuple[int, int] | None = None,
    color: str = "rgb",
) -> np.ndarray:
    """Returns an image as uint8 [height, width, channels].

    The first image of an animation is taken. Images with 16 bits per channel are
    reduced to 8 by Pillow's conversion. The orientation in EXIF data is applied.

    Args:
      source: the bytes of a PNG, JPEG, BMP, GIF, WebP, TIFF or PNM file, or a path.
      owner: whose image it is, for error messages.
      size: (height, width) to resize to, bilinearly and with antialiasing; the aspect
        ratio is not kept. None for the image's own size.
      color: "rgb" (3 channels), "grayscale" (1) or "rgba" (4).

    Raises:
      ValueError: the image is damaged, or in a format that Pillow does not know.
      ModuleNotFoundError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise _extras.error("images need", "PIL") from None
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image: Any = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):  # Pillow would clip it at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert(MODES[color])
            if size is not None and image.size != size[::-1]:
                image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            array = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, (FileNotFoundError, PermissionError)):
            raise
        raise ValueError(
            f"{owner}: the image is damaged or in another format than PNG, JPEG, BMP, GIF, WebP, "
            "TIFF and PNM; replace it, or leave it out with skip_invalid=True"
        ) from error
    return array[..., None] if array.ndim == 2 else array


def stacked(arrays: Sequence[np.ndarray], owner: str, names: Sequence[str]) -> np.ndarray:
    """Returns images of one size as one array [n, height, width, channels].

    Args:
      arrays: the images.
      owner: whose images they are, for error messages.
      names: what each image is called, for error messages.

    Raises:
      ValueError: two images differ in size.
    """
    for name, array in zip(names, arrays):
        if array.shape != arrays[0].shape:
            sizes = [f"{each.shape[0]} x {each.shape[1]}" for each in (array, arrays[0])]
            raise ValueError(
                f"{owner}: {name} has the size {sizes[0]}, but {names[0]} has {sizes[1]}: expected "
                "images of one size; pass image_size=(height, width), to which they are resized"
            )
    return np.stack(arrays) if len(arrays) else np.zeros([0, 0, 0, 3], np.uint8)
