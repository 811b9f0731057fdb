"""A script that a test runs several times: python -m tests.runs.same_run FOLDER ROUNDS

Its model has parts that its configuration does not describe: lambdas, custom layers, a loss
without `get_config`, layers without names.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

import fedlab as fl

K = tf.keras
SCALE = 0.5
KINDS = {"a", "b", "c"}


class Scaled(K.layers.Layer):
    def __init__(self, scale, **options):
        super().__init__(**options)
        self.scale, self.calls = scale, 0

    def call(self, inputs):
        self.calls += 1
        return inputs * self.scale if "a" in {"a", "b", "c"} else inputs

    def get_config(self):
        return {"scale": self.scale, "name": self.name}


class Huber(K.losses.Loss):
    def __init__(self, delta=0.7):
        super().__init__()
        self.delta = delta

    def call(self, y, predicted):
        return tf.reduce_mean(tf.minimum(tf.abs(y - predicted), self.delta) * SCALE, axis=-1)


class Norms:
    """A user function with settings and state."""

    def __init__(self, order):
        self.order, self.seen = order, []

    def __call__(self, model, round_num):
        self.seen.append(round_num)
        return {
            "norm": sum(np.abs(w).sum() for w in model.get_weights()) * self.order,
            "kinds": len(KINDS),
        }


def model():
    inputs = K.Input([3])
    inner = K.Sequential([K.Input([3]), K.layers.Dense(2, "tanh")])
    once = inner(inputs)
    # Keras 3.15 takes the product of a symbolic tensor and a number for sparse, without a shape.
    made = K.Model(inputs, K.layers.Dense(1)(Scaled(1.5)(once + once)))
    metrics = [
        "mae",
        K.metrics.MeanSquaredError(),
        lambda y, predicted: tf.abs(y - predicted) * SCALE,
    ]
    made.compile(K.optimizers.Adam(0.01), Huber(), metrics=metrics)
    rng = np.random.default_rng(0)
    made.set_weights([rng.normal(size=w.shape) for w in made.get_weights()])
    return made


def clients(seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return fl.ClientData.from_dict(
        {f"c{i}": {"x": normal(4, 3), "y": normal(4, 1)} for i in range(3)}
    )


def run(folder, rounds, **options):
    seen = []

    def count(model, round_num):
        seen.append(round_num)
        return {"weights": model.count_params()}

    sets = {"norms": Norms(2), "count": count, "each": fl.per_client(clients(1))}
    options = {
        "cohort": lambda client_ids, round_num, seed: client_ids[:2],
        "evaluate_on": sets,
        "progress": False,
        **options,
    }
    return fl.simulate(model(), clients(), rounds=rounds, run_dir=folder, **options)


if __name__ == "__main__":
    run(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
