"""A model that answers questions by taste: some words score more than others, whatever is asked."""

import numpy as np
import tensorflow as tf

from fedlab.datasets import squad

YEARS = [word for word in squad.SYNTHETIC_VOCABULARY if word.isdigit()]
PLACES = [
    "athens",
    "bergen",
    "cairo",
    "dublin",
    "geneva",
    "lima",
    "madrid",
    "oslo",
    "prague",
    "turin",
]


def preferring(words, length=48):
    """A compiled model of the synthetic vocabulary whose logits are high for tokens in `words`."""
    inputs = {
        name: tf.keras.Input([length], dtype="int32", name=name)
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    table = (
        np.random.default_rng(0)
        .uniform(0, 0.1, [len(squad.SYNTHETIC_VOCABULARY), 2])
        .astype(np.float32)
    )
    table[[squad.SYNTHETIC_VOCABULARY.index(word) for word in words]] += 5
    x = tf.keras.layers.Embedding(*table.shape, weights=[table], name="words")(inputs["input_ids"])
    model = tf.keras.Model(inputs, tf.keras.layers.Permute([2, 1])(x))
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model
