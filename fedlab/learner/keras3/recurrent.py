"""Recurrent layers. On Keras 3, they run Keras's own time loops, without a faster form."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from fedlab.learner.keras3.graph import layers_of
from fedlab.learner.variables import variables_of


@contextlib.contextmanager
def accelerated(model: keras.Model) -> Iterator[keras.Model]:
    """Yields the model unchanged: there is no faster form of its recurrent layers."""
    yield model


def recurrent_states(model: keras.Model) -> list[tf.Variable]:
    """Returns the variables in which stateful recurrent layers keep their states."""
    layers = [layer for layer in layers_of(model) if getattr(layer, "stateful", False)]
    states = (s for layer in layers for s in keras.tree.flatten(getattr(layer, "states", None)))
    return variables_of(state for state in states if isinstance(state, keras.Variable))


def reset_states(model: keras.Model) -> None:
    """Sets the states of stateful recurrent layers to zero."""
    for state in recurrent_states(model):
        state.assign(tf.zeros_like(state))
