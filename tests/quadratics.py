"""Problems with known solutions: least squares in float64, one quadratic per client."""

import numpy as np
import tensorflow as tf

import fedlab as fl
from tests.stacks import float64_loss

keras = tf.keras


def linear_model(dim, optimizer, start=0.0):
    """x'w with the loss (y - x'w)^2, in float64."""
    model = keras.Sequential(
        [
            keras.Input([dim], dtype="float64"),
            keras.layers.Dense(1, use_bias=False, dtype="float64"),
        ],
        name="linear",
    )
    model.compile(optimizer, loss=float64_loss(keras.losses.MeanSquaredError))
    model.set_weights([np.full([dim, 1], start)])
    return model


def points(goals, copies):
    """One-dimensional clients with F_i(w) = (w - goal)^2 on each of so many examples."""
    columns = [
        {"x": np.ones([n, 1]), "y": np.full([n, 1], float(goal))} for goal, n in zip(goals, copies)
    ]
    return fl.ClientData.from_dict({f"c{i}": each for i, each in enumerate(columns)})


def regressions(num_clients=5, dim=3, num_examples=8, seed=0):
    """Clients with the losses 1/2 w'A_i w - b_i'w (plus a constant), the A_i, and the b_i."""
    rng = np.random.default_rng(seed)
    clients, a, b = {}, [], []
    for i in range(num_clients):
        x = rng.normal(size=[num_examples, dim]) * rng.uniform(0.7, 1.4, size=dim)
        y = x @ rng.normal(size=[dim, 1]) + rng.normal(size=[num_examples, 1])
        clients[f"c{i}"] = {"x": x, "y": y}
        a.append(2 * x.T @ x / num_examples)
        b.append(2 * x.T @ y / num_examples)
    return fl.ClientData.from_dict(clients), np.array(a), np.array(b)


def simulate(model, clients, algorithm, rounds, **options):
    """The final weights as one array; by default all clients are in every round."""
    if "clients_per_round" not in options:
        options["cohort"] = list(clients.client_ids)
    options = {"batch_size": 1000, "num_workers": 1, "progress": False, **options}
    return fl.simulate(model, clients, algorithm, rounds=rounds, **options).model.get_weights()[0][
        :, 0
    ]
