"""Federated averaging as people write it by hand: set the weights, train on each batch, average in NumPy. The oracle of the engines."""

import numpy as np
import tensorflow as tf

from fedlab.data.columns import keras_batch
from fedlab.engines.batches import client_batches
from fedlab.models.cloning import clone


def one_round(setting, weights, round_num, cohort, weight_of=lambda batches: batches.examples.sum()):
    """Weights (all of the model's, in Keras's order) after a round, and each client's batch losses. Non-trainable weights do not change."""
    trained, client_weights, losses = [], [], []
    for client_id in cohort:
        batches = client_batches(setting, round_num, client_id)
        model = clone(setting.model)  # a fresh optimizer, recurrent states at zero
        model.run_eagerly = True  # compiling each of these small models would take longer
        model.set_weights(weights)
        losses.append([])
        for i, size in enumerate(batches.sizes):
            batch = {name: tf.constant(column[i][:size]) for name, column in batches.columns.items()}
            losses[-1].append(model.train_on_batch(*keras_batch(batch), reset_metrics=True, return_dict=True)["loss"])
        trained.append([w.numpy() for w in model.trainable_weights])
        client_weights.append(weight_of(batches))
    mean = [np.average(np.stack(values), axis=0, weights=client_weights) for values in zip(*trained)]
    names = [w.name for w in setting.model.weights]
    after = list(weights)
    for variable, value in zip(setting.model.trainable_weights, mean):
        after[names.index(variable.name)] = value.astype(np.float32)
    return after, losses


def largest_difference(first, second):
    """The largest difference between two lists of weights, relative to the largest value of each (0.001 where all are smaller)."""
    return max(np.max(np.abs(np.asarray(a) - np.asarray(b))) / max(np.max(np.abs(b)), 1e-3) for a, b in zip(first, second))
