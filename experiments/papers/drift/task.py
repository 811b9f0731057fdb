"""Logistic regression on Fashion-MNIST, with clients that differ in labels and in steps."""

import pathlib
from collections.abc import Mapping
from typing import Any

from fedlab.clients import seeding


def load(settings: Mapping[str, Any], path: pathlib.Path | None, seed: int) -> tuple[dict, Any]:
    """Returns (training columns, test clients). The training images are drawn from all."""
    from fedlab.datasets import fashion_mnist

    if settings["source"] == "synthetic":
        train, test = fashion_mnist.synthetic(num_examples=settings["num_train"] // 10)
    else:
        train, test = fashion_mnist.load(path=path)
    columns = train.to_arrays()
    order = seeding.generator(seed, "images").permutation(len(columns["y"]))
    rows = order[: settings["num_train"]]
    return {name: column[rows] for name, column in columns.items()}, test


def partitioner(name: str, num_clients: int, seed: int) -> Any:
    """Returns the partitioner of a setting."""
    from fedlab import partitioners

    if name == "iid":
        return partitioners.uniform(num_clients=num_clients, seed=seed)
    if name == "dirichlet":
        return partitioners.dirichlet(
            num_clients=num_clients, alpha=0.5, seed=seed, min_examples=10
        )
    return partitioners.labels_per_client(num_clients=num_clients, num_labels=2, seed=seed)


def share_of_steps(client_id: str, round_num: int, seed: int) -> Any:
    """A condition: each client takes a share of its steps, the same in every round.

    The shares are uniform between 0.1 and 1: from one to ten of ten epochs.
    """
    from fedlab.clients import Participation

    return Participation(seeding.generator(seed, "share of steps", client_id).uniform(0.1, 1.0))


def make_model(learning_rate: float) -> Any:
    """Builds the compiled logistic regression, of 7,850 parameters that start at 0."""
    import tensorflow as tf

    keras = tf.keras
    layers = [
        keras.layers.Input([28, 28, 1]),
        keras.layers.Flatten(),
        keras.layers.Dense(10, kernel_initializer="zeros"),
    ]
    model = keras.Sequential(layers, name="logistic_regression")
    model.compile(
        keras.optimizers.SGD(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def algorithm(name: str, settings: Mapping[str, Any], clients: Any) -> Any:
    """Returns an algorithm, with mu and alpha of the settings.

    SCAFFOLD and FedDyn weight all clients equally, the others by the number of their
    examples. "num_examples" would count examples that are read in several epochs several
    times, and clients with few steps would count less.
    """
    from fedlab import algorithms

    sizes = {client_id: clients.num_examples(client_id) for client_id in clients}
    weighting = algorithms.by_client(lambda client: sizes[client.client_id])
    if name == "scaffold":
        return algorithms.scaffold()
    if name == "fed_dyn":
        return algorithms.fed_dyn(settings["alpha"])
    if name == "fed_prox":
        return algorithms.fed_prox(settings["mu"], client_weighting=weighting)
    return getattr(algorithms, name)(client_weighting=weighting)
