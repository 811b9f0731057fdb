"""Rounds of an aggregator on updates given as lists of numbers, without an engine."""

import numpy as np
import tensorflow as tf

from fedlab.clients import seeding


def run_round(aggregator, updates, weights=None, state=None, round_num=1, dtype=np.float32):
    """The report on clients k = 0, 1, ... whose update is one tensor.

    Returns:
      (update as a NumPy array, state, metrics as floats).
    """
    updates = [tf.constant(np.asarray(update, dtype)) for update in updates]
    weights = np.ones(len(updates)) if weights is None else weights
    model = [tf.zeros_like(updates[0])]
    state = aggregator.init(model) if state is None else state
    accumulator = aggregator.zero(state, model)
    for k, (update, weight) in enumerate(zip(updates, weights)):
        seed = tf.constant(seeding.stateless(0, "aggregator", round_num, k))
        accumulator = aggregator.accumulate(
            state, accumulator, [update], tf.constant(weight, tf.float32), seed
        )
    delta, state, metrics = aggregator.report(
        state, accumulator, tf.constant(seeding.stateless(0, "aggregator", round_num))
    )
    return delta[0].numpy(), state, {name: float(value) for name, value in metrics.items()}
