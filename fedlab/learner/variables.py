"""The TensorFlow variables behind Keras variables, which are the same thing in Keras 2."""

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf


def variables_of(variables: Iterable[Any]) -> list[tf.Variable]:
    """Returns the TensorFlow variable of each Keras variable."""
    return [v if isinstance(v, tf.Variable) else v.value for v in variables]


def values(variables: Iterable[tf.Variable]) -> list[tf.Tensor]:
    """Returns the current values of variables."""
    return [v.read_value() for v in variables]


def assign(variables: Iterable[tf.Variable], new: Iterable[Any]) -> None:
    """Assigns a value to each variable."""
    for variable, value in zip(variables, new):
        variable.assign(value)


def leaves(value: Any) -> Iterator[Any]:
    """Yields what lists, tuples and dicts hold; `keras.tree` needs dicts with sorted keys."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, dict):
        yield from leaves([*value.values()])
    else:
        yield value
