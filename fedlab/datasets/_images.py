"""Images as examples: pixels to floats, partitions, and images that are generated."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedlab import _checks
from fedlab.clients import partitioners, seeding
from fedlab.clients.client_data import ClientData
from fedlab.datasets._mnist_files import Images

_STYLE = 0.15  # how much brightness differs between clients


def divided(
    parts: Mapping[str, Images], partitioner: Any, preprocess: Callable[..., dict[str, np.ndarray]]
) -> tuple[ClientData, ClientData]:
    """Returns (train, test): train divided among clients, test as one client "test".

    The images stay uint8 in memory; a client's are preprocessed when it is read.

    Args:
      parts: "train" and "test".
      partitioner: see `fedlab.clients.partitioners`; by default 100 equal shares.
      preprocess: columns x (uint8) and y -> columns of a client.
    """
    if partitioner is None:
        partitioner = partitioners.uniform(num_clients=100, seed=0)
    train = partitioners.clients(parts["train"]._asdict(), partitioner)
    test = ClientData.from_dict({"test": parts["test"]._asdict()})
    return train.map(preprocess), test.map(preprocess)


def scaled(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns x / 255 as float32 and y as int32."""
    return {
        "x": columns["x"].astype(np.float32) / np.float32(255),
        "y": columns["y"].astype(np.int32),
    }


def generated(
    dataset: str,
    num_clients: int,
    seed: int,
    num_examples: int,
    shape: tuple[int, int, int],
    num_classes: int,
    purpose: str = "train",
) -> dict[int, Images]:
    """Generates images that a model can learn to classify.

    ```
    pattern of a class = bright blocks of 4 x 4 pixels, the same for all clients
    labels of client k ~ Dirichlet(1) proportions
    image = pattern, shifted by up to one pixel, brighter or darker by client, plus noise
    ```

    Args:
      dataset: a name; the patterns of data sets differ.
      num_clients: 1 or more.
      seed: client k is a pure function of (seed, k), and so are the patterns of seed.
      num_examples: images per client, 1 or more.
      shape: height, width, channels.
      num_classes: labels are 0 to num_classes - 1.
      purpose: "train" or "test", whose images differ.

    Returns:
      k -> `Images`, for k in 0 to num_clients - 1.
    """
    _checks.check_int("num_clients", num_clients)
    _checks.check_int("num_examples", num_examples)
    height, width, channels = shape
    blocks = [num_classes, -(-height // 4), -(-width // 4), channels]
    rng = seeding.generator(seed, f"{dataset} patterns")
    patterns = rng.uniform(0.4, 0.9, blocks) * (rng.random(blocks) < 0.35)
    patterns = patterns.astype(np.float32)
    patterns = patterns.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return {
        k: _client(seeding.generator(seed, f"{dataset} {purpose}", k), patterns, num_examples)
        for k in range(num_clients)
    }


def _client(rng: np.random.Generator, patterns: np.ndarray, num_examples: int) -> Images:
    num_classes = len(patterns)
    y = rng.choice(num_classes, num_examples, p=rng.dirichlet(np.ones(num_classes)))
    brightness = rng.uniform(-_STYLE, _STYLE)
    places = [
        (np.arange(size) - rng.integers(-1, 2, [num_examples, 1])) % size
        for size in patterns.shape[1:3]
    ]
    x = patterns[y[:, None, None], places[0][:, :, None], places[1][:, None, :]]
    noise = rng.standard_normal(x.shape, np.float32)
    x = x + np.float32(brightness) + np.float32(0.1) * noise
    return Images(np.clip(np.round(x * 255), 0, 255).astype(np.uint8), y)


def synthetic(
    dataset: str,
    num_clients: int,
    seed: int,
    num_examples: int,
    shape: tuple[int, int, int],
    num_classes: int,
    preprocess: Callable[..., dict[str, np.ndarray]] = scaled,
) -> tuple[ClientData, ClientData]:
    """Returns `generated` as (train, test), in the form of `divided`."""
    options = dataset, num_clients, seed, num_examples, shape, num_classes
    train = {f"client_{k}": images._asdict() for k, images in generated(*options).items()}
    test = generated(dataset, 1, seed, 2 * num_examples, shape, num_classes, purpose="test")[0]
    return (
        ClientData.from_dict(train).map(preprocess),
        ClientData.from_dict({"test": test._asdict()}).map(preprocess),
    )


def inverted(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns `scaled` with 1 as the background instead of 0, as in federated EMNIST."""
    columns = scaled(columns)
    return columns | {"x": 1 - columns["x"]}
