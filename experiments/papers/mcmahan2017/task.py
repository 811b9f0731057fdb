"""The data and models of McMahan et al. 2017, and the training of one row of its tables."""

import contextlib
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.papers import digits
from experiments.papers.mcmahan2017.table import Method

SEQUENCE_LENGTH = 80
ALL_EXAMPLES = 2**31 - 1  # as a batch size


def images(source: str, path: pathlib.Path | None, num_images: int | None, seed: int):
    """Returns (train, test) columns of MNIST.

    Args:
      source: "published" or "synthetic".
      path: see `digits.load`.
      num_images: training images, drawn at random if there are more; None for all.
      seed: of the draw.
    """
    from fedlab.clients import seeding
    from fedlab.datasets import mnist

    if source == "synthetic":
        train, test = mnist.synthetic(num_clients=4)
    else:
        train, test = digits.load(path)
    train, test = train.to_arrays(), test.to_arrays()
    if num_images is not None and num_images < len(train["y"]):
        order = seeding.generator(seed, "images").permutation(len(train["y"]))
        rows = np.sort(order[:num_images])
        train = {name: column[rows] for name, column in train.items()}
    return train, test


def lines(source: str):
    """Returns (train, test) clients of Shakespeare, one per role, in rows of 80 characters."""
    from fedlab.datasets import shakespeare

    if source == "synthetic":
        return shakespeare.synthetic(5, num_sentences=10, sequence_length=SEQUENCE_LENGTH)
    return shakespeare.load(source, sequence_length=SEQUENCE_LENGTH)


def clients(what: Method, settings: Mapping[str, Any], path: pathlib.Path | None, seed: int):
    """Returns (training clients, test columns).

    IID clients get equal shares of all examples, shuffled. With "shards", the images are
    sorted by digit and cut, and each client gets two pieces. With "role", a client is a
    role of a play.
    """
    from fedlab import partitioners
    from fedlab.clients.partitioners import clients as divided

    if what.model == "shakespeare":
        train, test = lines(settings["shakespeare"])
        test = drawn(test.to_arrays(), settings["test_rows"])
        if what.partition == "role":
            return train, test
        num_clients, columns = len(train), train.to_arrays()
    else:
        columns, test = images(settings["mnist"], path, settings["num_images"], seed)
        num_clients = settings["num_clients"]
    divide = partitioners.shards if what.partition == "shards" else partitioners.uniform
    return divided(columns, divide(num_clients=num_clients, seed=seed)), test


def drawn(columns: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Draws at most `size` test examples, the same for every seed of a study."""
    from fedlab.clients import seeding

    order = seeding.generator(0, "evaluation").permutation(len(columns["y"]))
    return {name: column[np.sort(order[:size])] for name, column in columns.items()}


def make_model(name: str, rate: float, seed: int, units: int):
    """Builds the compiled model.

    Args:
      name: "2nn", "cnn" or "shakespeare".
      rate: of the clients' SGD.
      seed: of the initial weights.
      units: of each LSTM layer.
    """
    import tensorflow as tf

    from fedlab import models

    tf.keras.utils.set_random_seed(seed)
    if name == "2nn":
        return models.two_nn(learning_rate=rate)
    if name == "cnn":
        return models.fedavg_cnn(learning_rate=rate)
    model = models.char_rnn(
        embedding_dim=8, units=units, cell="lstm", num_layers=2, learning_rate=rate
    )
    # As in Reddi et al. 2021. From Keras's default, the model predicts the most frequent
    # character for more than 20 rounds.
    for layer in model.layers[1:3]:
        kernel, *others = layer.get_weights()
        drawn_kernel = tf.keras.initializers.HeNormal()(kernel.shape)
        layer.set_weights([np.asarray(drawn_kernel), *others])
    return model


def stop_at(target: float):
    """Returns a callback that stops a run when the test accuracy reaches the target."""
    import fedlab as fl

    class StopAtTarget(fl.callbacks.Callback):
        """Stops a run when the test accuracy reaches the target."""

        def __init__(self, target):
            self.settings = {"target": target}

        def on_round_end(self, round):
            accuracy = round.metrics.get("test_accuracy")
            if accuracy is not None and accuracy >= self.settings["target"]:
                round.stop(f"the test accuracy is {accuracy:.4f}")

    return StopAtTarget(target)


def train(
    what: Method,
    settings: Mapping[str, Any],
    row: Mapping[str, Any],
    seed: int,
    *,
    path: pathlib.Path | None = None,
    run_dir: pathlib.Path | None = None,
    num_workers: int | None = None,
):
    """Trains a row of the tables until it reaches its target.

    Args:
      what: what to train.
      settings: of the study's scale.
      row: rate, max_rounds and evaluate_every.
      seed: of the partition, the initial weights and the draws of clients.
      path, run_dir, num_workers: as in `study.Setup`.

    Returns:
      (run, the number of training examples).
    """
    import fedlab as fl

    with contextlib.suppress(RuntimeError):  # too late if TensorFlow has run already
        fl.one_core_per_client()
    train, test = clients(what, settings, path, seed)
    run = fl.simulate(
        make_model(what.model, row["rate"], seed, settings["units"]),
        train,
        fl.algorithms.fed_sgd() if what.fedsgd else fl.algorithms.fed_avg(),
        rounds=row["max_rounds"],
        clients_per_round=max(1, math.floor(settings["fraction"] * len(train) + 0.5)),
        # The size of FedSGD's batches does not change the gradient. Large roles fit in memory.
        batch_size=100 if what.fedsgd else what.batch_size or ALL_EXAMPLES,
        local_epochs=what.epochs,
        seed=seed,
        evaluate_on=fl.ClientData.from_dict({"test": test}),
        evaluate_every=row["evaluate_every"],
        evaluation_batch_size=256,
        callbacks=[stop_at(settings["targets"][what.model])],
        run_dir=run_dir,
        num_workers=num_workers,
    )
    return run, sum(train.num_examples(client_id) for client_id in train)
