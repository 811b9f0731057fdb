"""Feature skew: each client sees the same kind of examples differently.

These functions take clients and return clients. What a client's examples become is a pure
function of (seed, client id, the client's columns), so that a client is transformed
alike in training and test data, whichever other clients there are.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlab import _checks, _extras
from fedlab.clients import seeding
from fedlab.clients.client_data import ClientData


def transformed(
    clients: ClientData, fn: Callable[[str, dict[str, np.ndarray]], Mapping[str, Any]]
) -> ClientData:
    """Returns the same clients with a function of the client id applied to their columns.

    Args:
      clients: the clients.
      fn: (client_id, columns) -> columns. Its input is read-only. It must return the same
        result each time; see `ClientData.map`, for functions of the columns only.

    Returns:
      A ClientData with the same client ids. A client is transformed on first use.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"x": [1.0]}, "bob": {"x": [1.0]}})
      >>> volume = {"ann": 1.0, "bob": 3.0}
      >>> louder = transformed(clients, lambda name, columns: {"x": volume[name] * columns["x"]})
      >>> louder["bob"]["x"]
      array([3.])
    """
    _check_clients(clients)
    if not callable(fn):
        raise _checks.type_error("fn", fn, "a function (client_id, columns) -> columns")
    return ClientData(clients.client_ids, lambda client_id: fn(client_id, clients[client_id]))


def rotated(
    clients: ClientData,
    seed: int,
    *,
    degrees: Sequence[float] = (0, 90, 180, 270),
    column: str = "x",
) -> ClientData:
    """Rotates the images of each client by an angle of its own.

    Guarantees: all images of a client have the same angle, one of `degrees`, each with
    the same probability. Multiples of 90 degrees only move pixels.

    Ghosh et al. 2020, "An Efficient Framework for Clustered Federated Learning", section
    6.2 (rotated MNIST, four clusters of clients). Departure: the clients of an angle are
    equally many only on average.

    Args:
      clients: the clients.
      seed: 0 or more.
      degrees: the angles, counterclockwise. Angles other than multiples of 90 need SciPy;
        pixels are interpolated linearly, and 0 outside of the image.
      column: the name of the images, [n, height, width] or [n, height, width, channels].
        90 and 270 degrees need square images.

    Returns:
      A ClientData with the same client ids.

    Raises:
      ValueError: no angles; or, on reading, the column is missing or has no images.

    Example:
      >>> image = {"x": np.array([[[1, 2], [3, 4]]])}
      >>> clients = ClientData.from_dict({"ann": image, "bob": image})
      >>> rotated(clients, seed=0, degrees=[90])["ann"]["x"][0]
      array([[2, 4],
             [1, 3]])
    """
    _check_clients(clients)
    seeding.check_seed(seed)
    if isinstance(degrees, (str, bytes)) or not isinstance(degrees, Sequence) or not degrees:
        raise _checks.value_error("degrees", degrees, "angles, such as (0, 90, 180, 270)")
    angles = [_checks.check_number("an angle of degrees", each) % 360 for each in degrees]

    def rotate(client_id: str, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = _images(client_id, columns, column)
        choice = seeding.generator(seed, "feature_skew", "rotated", client_id)
        angle = angles[int(choice.integers(len(angles)))]
        if angle % 180 and images.shape[1] != images.shape[2]:
            raise ValueError(
                f"client {client_id!r}: column {column!r} has images of {images.shape[1]} x "
                f"{images.shape[2]} pixels: expected square images, or degrees=(0, 180)"
            )
        return {**columns, column: _rotate(images, angle)}

    return transformed(clients, rotate)


def noisy(clients: ClientData, scale: float, seed: int, *, column: str = "x") -> ClientData:
    """Adds Gaussian noise whose level differs between clients.

    ```
    level_i ~ Uniform(0, 1)
    x + scale * level_i * Normal(0, 1)
    ```

    Guarantees: a client's noise has the standard deviation scale * level_i, with the
    same level in all its data.

    Li et al. 2022, "Federated Learning on Non-IID Data Silos", section 4.2 (noise-based
    feature imbalance). Departure: its levels are i / N for client i of N, so that the
    level of a client would depend on the other clients. Its scale is a variance.

    Args:
      clients: the clients.
      scale: the largest standard deviation; 0 or more, in units of the column.
      seed: 0 or more.
      column: the name of the features, [n, ...] numbers. Integers are rounded, and
        clipped to what their dtype can hold.

    Returns:
      A ClientData with the same client ids, shapes and dtypes.

    Raises:
      ValueError: a value out of range; or, on reading, the column is missing or has no
        numbers.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"x": np.zeros([2, 3], np.float32)}})
      >>> noisy(clients, scale=0.1, seed=0)["ann"]["x"].shape
      (2, 3)
    """
    _check_clients(clients)
    _checks.check_number("scale", scale, 0)
    seeding.check_seed(seed)

    def add(client_id: str, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = _column(client_id, columns, column)
        level = seeding.generator(seed, "feature_skew", "noisy", client_id).random()
        # Not the same noise in the training and the test data of a client.
        data = zlib.crc32(np.ascontiguousarray(x).tobytes())
        rng = seeding.generator(seed, "feature_skew", "noise", client_id, data)
        return {**columns, column: _cast(x + scale * level * rng.standard_normal(x.shape), x.dtype)}

    return transformed(clients, add)


def tinted(clients: ClientData, strength: float, seed: int, *, column: str = "x") -> ClientData:
    """Multiplies the color channels of each client's images, as cameras and light do.

    ```
    gain_ic ~ Uniform(1 - strength, 1)     for client i and each of 3 channels c
    image[..., c] * gain_ic
    ```

    Guarantees: all images of a client have the same gains; values stay between 0 and
    their former value.

    The feature shift that Li et al. 2021, "FedBN: Federated Learning on Non-IID Features
    via Local Batch Normalization", section 1, attributes to different sensors and
    scenes. The rule is ours.

    Args:
      clients: the clients.
      strength: 0 to 1; 0 changes nothing.
      seed: 0 or more.
      column: the name of the images, [n, height, width, 3]; or [n, height, width] or
        [n, height, width, 1], which become 3 channels. 0 is black. Integers are rounded.

    Returns:
      A ClientData with the same client ids.

    Raises:
      ValueError: a value out of range; or, on reading, the column is missing or has no
        images.

    Example:
      >>> clients = ClientData.from_dict({"ann": {"x": np.ones([5, 28, 28], np.float32)}})
      >>> colored = tinted(clients, strength=0.8, seed=0)["ann"]["x"]
      >>> colored.shape, bool((colored >= 0.2).all() and (colored <= 1).all())
      ((5, 28, 28, 3), True)
    """
    _check_clients(clients)
    _checks.check_number("strength", strength, 0, 1, what="such as 0.5")
    seeding.check_seed(seed)

    def tint(client_id: str, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = _images(client_id, columns, column)
        if images.ndim == 3:
            images = images[..., np.newaxis]
        if images.shape[-1] not in (1, 3):
            raise ValueError(
                f"client {client_id!r}: column {column!r} has {images.shape[-1]} channels: "
                "expected 1 or 3"
            )
        rng = seeding.generator(seed, "feature_skew", "tinted", client_id)
        return {**columns, column: _cast(images * (1 - strength * rng.random(3)), images.dtype)}

    return transformed(clients, tint)


def _check_clients(clients: Any) -> None:
    if not isinstance(clients, ClientData):
        raise _checks.type_error("clients", clients, "a fedlab.ClientData")


def _column(client_id: str, columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in columns:
        raise ValueError(
            f"column={name!r}: expected one of the columns {list(columns)} of client {client_id!r}"
        )
    if columns[name].dtype.kind not in "iuf":
        raise ValueError(
            f"client {client_id!r}: column {name!r} has dtype {columns[name].dtype}: expected "
            "numbers"
        )
    return columns[name]


def _images(client_id: str, columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    x = _column(client_id, columns, name)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"client {client_id!r}: column {name!r} has shape {list(x.shape)}: expected images, "
            "[n, height, width] or [n, height, width, channels]"
        )
    return x


def _rotate(images: np.ndarray, angle: float) -> np.ndarray:
    if angle % 90 == 0:
        return np.rot90(images, int(angle // 90), axes=(1, 2))
    try:
        from scipy import ndimage
    except ModuleNotFoundError:
        raise _extras.error(
            f"rotating by {angle} degrees needs", "scipy", "or use multiples of 90"
        ) from None
    return ndimage.rotate(images, angle, axes=(2, 1), reshape=False, order=1)


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.round(values), limits.min, limits.max)
    return values.astype(dtype)
