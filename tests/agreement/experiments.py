"""Experiments that give the same on both stacks: the same data, clients and initial weights.

All numbers come from NumPy's generators, because the initializers of Keras 2 and Keras 3 draw
other numbers from the same seed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import fedlab as fl
from fedlab.tasks.generation import text

keras, layers = tf.keras, tf.keras.layers

ROUNDS = 5


class Experiment(NamedTuple):
    """A simulation.

    Attributes:
      model: makes the compiled model.
      data: generator -> the columns of a client.
      algorithm: makes the algorithm.
      options: of `fedlab.simulate`.
    """

    model: Callable[[], Any]
    data: Callable[[Any], dict[str, np.ndarray]]
    algorithm: Callable[[], Any] = fl.algorithms.fed_avg
    options: Callable[[], dict[str, Any]] = dict

    def run(self, **options):
        rng = np.random.default_rng(7)
        examples = {f"c{i}": self.data(rng) for i in range(6)}
        return fl.simulate(
            self.model(),
            fl.ClientData.from_dict(examples),
            **{
                "algorithm": self.algorithm(),
                "rounds": ROUNDS,
                "clients_per_round": 4,
                "seed": 3,
                "batch_size": 4,
                "local_epochs": 2,
                "evaluate_on": fl.ClientData.from_dict({"t": self.data(rng)}),
                "num_workers": 1,
                "progress": False,
                **self.options(),
                **options,
            },
        )


# Data: clients of different sizes, with labels that can be learned.


def rows(rng):
    """Three classes of rows of numbers."""
    x = rng.normal(size=[rng.integers(9, 22), 5])
    y = np.argmax(x[:, :3] + 0.5 * x[:, 2:], axis=1)
    return {"x": x.astype(np.float32), "y": y}


def weighted_rows(rng):
    columns = rows(rng)
    return {**columns, "sample_weight": rng.uniform(0, 2, len(columns["y"])).astype(np.float32)}


def images(rng):
    """Two classes of images: bright on the left or on the right."""
    y = rng.integers(0, 2, rng.integers(9, 22))
    x = rng.uniform(size=[len(y), 8, 8, 1]) + (np.arange(8) // 4 == y[:, None])[:, None, :, None]
    return {"x": x.astype(np.float32), "y": y}


def texts(rng):
    """Characters that mostly count upwards, cut into sequences, the last one with padding."""
    steps = rng.choice([1, 2], size=rng.integers(50, 100), p=[0.8, 0.2])
    return text.sequences((np.cumsum(steps) % 11).astype(np.int32), 6)


def padded(rng):
    """Sequences with zeros at the end, and the class of the largest number."""
    x = rng.integers(1, 11, [rng.integers(9, 22), 6]).astype(np.int32)
    x[np.arange(6) >= rng.integers(2, 7, len(x))[:, None]] = 0
    return {"x": x, "y": (x.max(axis=1) > 8).astype(np.int64)}


# Models.


def initialized(model, seed=0):
    """Sets the weights from a NumPy generator. Batch normalization keeps its zeros and ones."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if not isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(-0.5, 0.5, w.shape) for w in layer.get_weights()])
    return model


def compiled(inputs, body, classes, optimizer=None):
    model = keras.Sequential([inputs, *body, layers.Dense(classes)], name="model")
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        weighted_metrics=[],
    )
    return initialized(model)


def dense(optimizer=None, *middle, **options):
    body = [layers.Dense(6, "tanh", **options), *middle]
    return compiled(keras.Input([5]), body, 3, optimizer)


def cnn(*middle, optimizer=None):
    body = [
        layers.Conv2D(4, 3, activation="relu"),
        *middle,
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(2, padding="same"),
        layers.Flatten(),
    ]
    return compiled(keras.Input([8, 8, 1]), body, 2, optimizer)


def normalized_cnn():
    """A CNN whose batch normalization both Kerases define equally: of three axes, not of four."""
    rows = layers.Reshape([36, 4]), layers.BatchNormalization(momentum=0.8)
    return cnn(*rows, layers.Reshape([6, 6, 4]))


def char_rnn(cell, optimizer=None, **options):
    model = fl.models.char_rnn(11, 4, 4, cell=cell, **options)
    if optimizer is not None:
        model.compile(optimizer, model.loss, metrics=[], weighted_metrics=["accuracy"])
    return initialized(model)


def masked():
    body = [layers.Embedding(11, 4, mask_zero=True), layers.Bidirectional(layers.LSTM(3))]
    return compiled(keras.Input([6], dtype="int32"), body, 2, keras.optimizers.SGD(0.2))


def momentum():
    return keras.optimizers.SGD(0.05, momentum=0.9)


def adam():
    # With Keras's small epsilon, Adam turns the rounding error of a gradient near zero into a
    # whole step.
    return keras.optimizers.Adam(0.05, epsilon=0.01)


algorithms, aggregators = fl.algorithms, fl.aggregators

# The local engine: name -> experiment. Optimizers have Keras's default epsilons.
LOCAL = {
    "dense": Experiment(dense, rows),
    "dense, fed_prox, momentum": Experiment(
        lambda: dense(momentum()), rows, lambda: algorithms.fed_prox(0.5)
    ),
    "dense, scaffold": Experiment(dense, rows, algorithms.scaffold),
    "dense, fed_adam": Experiment(dense, rows, lambda: algorithms.fed_adam(0.05)),
    "dense, adam": Experiment(lambda: dense(keras.optimizers.Adam(0.02)), rows),
    "dense, adamw": Experiment(lambda: dense(keras.optimizers.AdamW(0.02, weight_decay=0.1)), rows),
    "dense, rmsprop": Experiment(lambda: dense(keras.optimizers.RMSprop(0.01)), rows),
    "dense, adagrad": Experiment(lambda: dense(keras.optimizers.Adagrad(0.1)), rows),
    "dense, yogi": Experiment(lambda: dense(fl.optimizers.Yogi(0.02)), rows),
    "dense, nesterov, clipped, decayed": Experiment(
        lambda: dense(
            keras.optimizers.SGD(
                keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.8),
                momentum=0.5,
                nesterov=True,
                global_clipnorm=0.5,
            )
        ),
        rows,
    ),
    "dense, regularized, constrained": Experiment(
        lambda: dense(
            None,
            layers.Dense(4, activity_regularizer="l2"),
            kernel_regularizer=keras.regularizers.L1(0.01),
            kernel_constraint=keras.constraints.MaxNorm(1.0),
        ),
        rows,
    ),
    "dense, sample_weight, class_weight": Experiment(
        dense, weighted_rows, options=lambda: {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}
    ),
    "dense, mime": Experiment(lambda: dense(momentum()), rows, algorithms.mime),
    "dense, fed_dyn": Experiment(dense, rows, lambda: algorithms.fed_dyn(0.1)),
    "dense, fed_nova, momentum": Experiment(lambda: dense(momentum()), rows, algorithms.fed_nova),
    "dense, local_adam": Experiment(lambda: dense(adam()), rows, algorithms.local_adam),
    "dense, quantized, dropouts": Experiment(
        dense,
        rows,
        options=lambda: {
            "aggregator": aggregators.clipped(aggregators.quantized()),
            "conditions": fl.clients.dropouts(0.3),
        },
    ),
    "dense, differentially_private": Experiment(
        dense,
        rows,
        lambda: algorithms.fed_avg(client_weighting="uniform"),
        options=lambda: {
            "aggregator": aggregators.differentially_private(
                0.1, clients_per_round=4, norm=1.0, num_clients=6
            ),
            "clients_per_round": None,
            "cohort": fl.clients.poisson(4),
        },
    ),
    "cnn": Experiment(cnn, images),
    "cnn, adam": Experiment(lambda: cnn(optimizer=keras.optimizers.Adam(0.01)), images),
    "cnn, batch normalization": Experiment(normalized_cnn, images),
    "cnn, batch normalization, broadcast": Experiment(
        normalized_cnn, images, options=lambda: {"non_trainable": "broadcast"}
    ),
    "cnn, batch normalization of images": Experiment(
        lambda: cnn(layers.BatchNormalization(momentum=0.8)), images
    ),
    "dense, batch normalization": Experiment(
        lambda: dense(momentum(), layers.BatchNormalization(momentum=0.8)), rows
    ),
    "gru": Experiment(lambda: char_rnn("gru"), texts),
    "gru, adam, fed_yogi": Experiment(
        lambda: char_rnn("gru", keras.optimizers.Adam(0.02)),
        texts,
        lambda: algorithms.fed_yogi(0.1),
    ),
    "gru, stateful": Experiment(
        lambda: char_rnn("gru", stateful=True, batch_size=4), texts, algorithms.scaffold
    ),
    "lstm": Experiment(lambda: char_rnn("lstm"), texts),
    "lstm, masked, bidirectional": Experiment(masked, padded),
}


def mirrored_fed_prox(mu):
    """FedProx with the wrong sign of the proximal term, as in TFF 0.87.

    TFF adds mu (w - w_k) to the gradient at w_k, where the paper adds mu (w_k - w).
    """
    algorithm = algorithms.fed_prox(mu)

    def client_step(task, weights, state, batch):
        gradients = [
            gradient + mu * (start - now)
            for gradient, start, now in zip(
                task.gradients(state.weights, batch), weights, state.weights
            )
        ]
        return type(state)(*task.optimizer.apply(state.weights, state.optimizer, gradients))

    return algorithm._replace(client_step=client_step)


# TFF's own algorithms: name -> experiment.
TFF = {
    "fed_avg": Experiment(dense, rows),
    "fed_avg, momentum": Experiment(lambda: dense(momentum()), rows),
    "fed_avg, adam": Experiment(lambda: dense(adam()), rows),
    "fed_avg, adamw": Experiment(
        lambda: dense(keras.optimizers.AdamW(0.05, weight_decay=0.1, epsilon=0.01)), rows
    ),
    "fed_avg, uniform, server momentum": Experiment(
        dense,
        rows,
        lambda: algorithms.fed_avg(
            client_weighting="uniform", server_learning_rate=0.7, server_momentum=0.9
        ),
    ),
    "fed_avg, cnn": Experiment(cnn, images),
    "fed_avg, gru": Experiment(lambda: char_rnn("gru"), texts),
    "fed_avg, lstm, tokens": Experiment(
        lambda: char_rnn("lstm", stateful=True, batch_size=4),
        texts,
        lambda: algorithms.fed_avg(client_weighting="num_tokens"),
    ),
    "fed_avg, masked, bidirectional": Experiment(masked, padded),
    "fed_avg, sample_weight": Experiment(dense, weighted_rows),
    "fed_avg, clipped": Experiment(
        dense, rows, options=lambda: {"aggregator": aggregators.clipped(norm=0.3)}
    ),
    "fed_prox": Experiment(dense, rows, lambda: mirrored_fed_prox(0.5)),
    "fed_sgd": Experiment(dense, rows, algorithms.fed_sgd),
    "fed_avgm": Experiment(dense, rows, lambda: algorithms.fed_avgm(0.5, momentum=0.9)),
    "fed_adam": Experiment(dense, rows, lambda: algorithms.fed_adam(0.05, epsilon=0.01)),
    # With a beta_2 near 1, Yogi would differ from Adam by 3e-5 only.
    "fed_yogi": Experiment(
        dense, rows, lambda: algorithms.fed_yogi(0.05, beta_2=0.5, epsilon=0.01)
    ),
    "fed_adagrad": Experiment(
        dense, rows, lambda: algorithms.fed_adagrad(0.1, epsilon=0.01, epsilon_in_root=True)
    ),
    "mime_lite": Experiment(lambda: dense(momentum()), rows, algorithms.mime_lite),
}
