"""Federated averaging in plain Keras and NumPy, the reference for the engines."""

import numpy as np
import tensorflow as tf

from fedlab.clients.columns import keras_batch
from fedlab.engines.batches import client_batches


def one_round(
    setting,
    weights,
    round_num,
    cohort,
    weight_of=lambda batches: batches.examples.sum(),
    prepare=None,
):
    """Weights (all of the model's, in Keras's order) after a round, and each client's batch losses.

    Non-trainable weights do not change, unless the setting averages them.
    `prepare(model, round_num, client_id)` is called before a client trains.
    """
    trained, client_weights, losses = [], [], []
    for client_id in cohort:
        batches = client_batches(setting, round_num, client_id)
        model = setting.build()  # a fresh optimizer, recurrent states at zero
        model.run_eagerly = True  # compiling each of these small models would take longer
        model.set_weights(weights)
        if prepare is not None:
            prepare(model, round_num, client_id)
        losses.append([])
        for i, size in enumerate(batches.sizes):
            batch = {
                name: tf.constant(column[i][:size]) for name, column in batches.columns.items()
            }
            model.reset_metrics()
            measured = model.train_on_batch(*keras_batch(batch), return_dict=True)
            losses[-1].append(measured.get("loss"))
        trained.append(model.get_weights())
        client_weights.append(weight_of(batches))
    averaged = {
        id(w)
        for w in (
            setting.model.trainable_weights
            if setting.non_trainable == "broadcast"
            else setting.model.weights
        )
    }
    after = [
        _mean(values, client_weights) if id(variable) in averaged else before
        for variable, before, values in zip(setting.model.weights, weights, zip(*trained))
    ]
    return after, losses


def _mean(values, weights):
    mean = np.average(np.stack(values), axis=0, weights=weights)
    return (mean if values[0].dtype.kind == "f" else np.rint(mean)).astype(values[0].dtype)


def largest_difference(first, second):
    """The largest difference between two lists of weights, relative to each one's largest value.

    Weights whose values are all below 0.001 are compared relative to 0.001.
    """
    return max(
        np.max(np.abs(np.asarray(a) - np.asarray(b))) / max(np.max(np.abs(b)), 1e-3)
        for a, b in zip(first, second)
    )
