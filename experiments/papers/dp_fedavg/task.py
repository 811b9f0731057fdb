"""The task of TFF's tutorial: digits, a network of two hidden layers, and private averaging."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any


def clients(settings: Mapping[str, Any], path: pathlib.Path | None, seed: int) -> tuple[Any, Any]:
    """Returns (train, test) as `ClientData`.

    Args:
      settings: with data: "emnist", by writer, "fashion_mnist", divided at random among
        num_clients clients, or "synthetic".
      path: the folder of the files, or None.
      seed: of the division.
    """
    from fedlab import partitioners
    from fedlab.datasets import emnist, fashion_mnist

    num_clients = settings["num_clients"]
    if settings["data"] == "synthetic":
        return fashion_mnist.synthetic(num_clients)
    if settings["data"] == "fashion_mnist":
        divide = partitioners.uniform(num_clients=num_clients, seed=seed)
        return fashion_mnist.load(path=path, partitioner=divide)
    train, test = emnist.load(path=path, task="digits")
    if len(train) != num_clients:
        raise ValueError(
            f"{len(train)} writers: expected {num_clients}, the number that epsilon is computed "
            "for; use TFF's files of digits"
        )
    return train, test


def aggregator(settings: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Returns the aggregator of a case.

    Args:
      settings: with num_clients and delta.
      options: with clients, noise, and norm: "adaptive" for the median of the norms, a number, or
        "none" for updates that are not clipped. Those have no noise.
    """
    from fedlab import aggregators

    if options["norm"] == "none":
        return aggregators.mean()
    adaptive = aggregators.adaptive(0.1, 0.5, 0.2)
    return aggregators.differentially_private(
        options["noise"],
        options["clients"],
        settings["num_clients"],
        norm=adaptive if options["norm"] == "adaptive" else options["norm"],
        delta=settings["delta"],
    )


def evaluated(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns a history without the columns that a table does not need."""
    names = ("round", "seconds", "test_accuracy", "test_loss", "clip_norm")
    return [{name: row[name] for name in names if name in row} for row in history]
