"""The task of NIID-Bench: images, the small CNN, and the algorithms as its code has them."""

import pathlib
from typing import Any

from experiments.papers import digits
from experiments.papers.niid_bench import partitions

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-5


def load(dataset: str, source: str, path: pathlib.Path | None) -> tuple[dict, dict]:
    """Returns (train, test) as columns x, y.

    Args:
      dataset: "mnist" or "fashion_mnist".
      source: "published" or "synthetic".
      path: the folder of the data's files, or None; see `digits.load` for MNIST.
    """
    from fedlab import datasets

    module = getattr(datasets, dataset)
    if source == "synthetic":
        train, test = module.synthetic(num_clients=10, num_examples=40)
    elif dataset == "mnist":
        train, test = digits.load(path)
    else:
        train, test = module.load(path=path)
    return train.to_arrays(), test.to_arrays()


def clients(columns: dict, partition: str, num_clients: int, seed: int) -> Any:
    """Returns the training images as a `ClientData`."""
    import fedlab as fl

    divide = partitions.partitioner(partition, num_clients, seed)
    return fl.partitioners.clients(columns, divide)


def make_model(seed: int, learning_rate: float, units: tuple[int, int] = (120, 84)) -> Any:
    """Builds the compiled CNN, of 44,426 parameters.

    ```
    5 x 5 convolution, 6 channels, ReLU; 2 x 2 max pooling
    5 x 5 convolution, 16 channels, ReLU; 2 x 2 max pooling
    120 units, ReLU; 84 units, ReLU; logits
    ```

    Kernels and biases start uniform between -1 / sqrt(n) and 1 / sqrt(n), for n inputs of a
    unit, as in PyTorch. The weight decay is added to the gradient before momentum.

    Args:
      seed: of the initial weights.
      learning_rate: of the clients' SGD.
      units: of the two dense layers.
    """
    import tensorflow as tf

    keras = tf.keras
    keras.utils.set_random_seed(seed)

    def options(num_inputs: int) -> dict[str, Any]:
        bound = num_inputs**-0.5
        # The gradient of l2(c) is 2 c w.
        return {
            f"{kind}_{what}": made
            for kind in ("kernel", "bias")
            for what, made in (
                ("initializer", keras.initializers.RandomUniform(-bound, bound)),
                ("regularizer", keras.regularizers.L2(WEIGHT_DECAY / 2)),
            )
        }

    model = keras.Sequential(
        [
            keras.layers.Input([28, 28, 1]),
            keras.layers.Conv2D(6, 5, activation="relu", **options(25)),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(16, 5, activation="relu", **options(6 * 25)),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(units[0], activation="relu", **options(256)),
            keras.layers.Dense(units[1], activation="relu", **options(units[0])),
            keras.layers.Dense(10, **options(units[1])),
        ],
        name="simple_cnn",
    )
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def algorithm(name: str, mu: float) -> Any:
    """Returns an algorithm. All weight clients by their number of examples."""
    from fedlab import algorithms

    if name == "fed_prox":
        return algorithms.fed_prox(mu)
    if name == "scaffold":
        return weighted(algorithms.scaffold())
    return getattr(algorithms, name)()


def weighted(base: Any) -> Any:
    """Returns SCAFFOLD with deltas that are weighted by the number of examples."""

    from fedlab.algorithms import weighting

    weight_of = weighting.get("num_examples")

    def client_final(task: Any, weights: Any, state: Any, counts: Any) -> Any:
        result = base.client_final(task, weights, state, counts)
        return result._replace(weight=weight_of(counts))

    return base._replace(client_final=client_final)
