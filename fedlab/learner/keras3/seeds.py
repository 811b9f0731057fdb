"""The random draws of layers such as Dropout, as a function of a seed.

Each random layer of Keras 3 has a `SeedGenerator`, a variable that counts its draws.
`fit` continues from draw to draw. Here, the generators start from a given seed, so the
draws of a client do not depend on what was drawn before.
"""

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from fedlab.learner.keras3.graph import layers_of

_STARTS = 2**31 - 2  # Keras takes the values of a generator modulo this


def generators(model: keras.Model) -> list[tf.Variable]:
    """Returns the state variables of a model's seed generators, int64 [2] each."""
    found = (each for layer in (model, *layers_of(model)) for each in layer._seed_generators)
    states = (generator.state.value for generator in found)
    return list({id(state): state for state in states}.values())


def starts(num_generators: int, seed: tf.Tensor) -> list[tf.Tensor]:
    """Returns the state of each generator before the first draw, int64 [2] each.

    Args:
      num_generators: the number of generators, which draw independently.
      seed: int64 scalar.
    """
    if not num_generators:
        return []
    drawn = tf.random.stateless_uniform(
        [num_generators, 2], tf.stack([seed, 0]), 0, _STARTS, dtype=tf.int64
    )
    return tf.unstack(drawn)


def global_generator() -> tf.Variable | None:
    """Returns the state of the generator that Keras uses for draws without a seed, if any."""
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state.value
