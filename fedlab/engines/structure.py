"""Checks of what the functions of algorithms and aggregators return, while a graph is traced."""

import textwrap
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fedlab.algorithms.algorithm import ClientResult, StructureError


def check_alike(given: Any, like: Any, who: str, remedy: str) -> Any:
    """Raises StructureError unless `given` has the nesting, dtypes and shapes of `like`.

    Args:
      given: a nest of tensors, or of what makes tensors.
      like: a nest of tensors.
      who: whose `given` is, and what: the start of the message.
      remedy: what to do, its end.

    Returns:
      `given`, its leaves tensors.
    """
    try:
        given = tf.nest.map_structure(tf.convert_to_tensor, given)
        tf.nest.assert_same_structure(given, like)
        alike = all(_fits(*pair) for pair in zip(tf.nest.flatten(given), tf.nest.flatten(like)))
    except (TypeError, ValueError):
        alike = False
    if not alike:
        raise StructureError(f"{who} is {describe(given)}: expected {describe(like)}. {remedy}")
    return given


def check_weights(given: Any, weights: Sequence[tf.Tensor], who: str) -> list[tf.Tensor]:
    """Raises StructureError where `given` is not a list of tensors like `weights`."""
    if isinstance(given, tuple):
        given = list(given)
    return check_alike(
        given, list(weights), who, "One tensor for each weight, of its shape and dtype."
    )


def tensors(nest: Any, who: str) -> Any:
    """The nest with tensors as leaves. Raises StructureError where something is none."""
    try:
        return tf.nest.map_structure(tf.convert_to_tensor, nest)
    except (TypeError, ValueError):
        raise StructureError(
            f"{who} is {describe(nest)}: expected a nest of tensors, () for none"
        ) from None


def check_result(
    result: Any, weights: Sequence[tf.Tensor], extras: Any, kept: Any, name: str
) -> ClientResult:
    """Raises StructureError unless an engine can add and store what a client returns.

    Args:
      result: what `client_final` returned.
      weights: the model's.
      extras, kept: what the algorithm's `extras` and `client_state` declare.
      name: the algorithm's.

    Returns:
      The `ClientResult`, its leaves tensors.
    """
    who = f"client_final of {name!r}"
    if not isinstance(result, ClientResult):
        raise StructureError(
            f"what {who} returns is {describe(result)}: expected a "
            "fedlab.algorithms.ClientResult(delta, weight)"
        )
    return ClientResult(
        check_weights(result.delta, weights, f"the delta that {who} returns"),
        check_alike(
            result.weight,
            tf.zeros([]),
            f"the weight that {who} returns",
            "It is a scalar of 0 or more.",
        ),
        check_alike(
            result.extras,
            extras,
            f"what {who} sends as extras",
            "Declare them: extras(weights) gives zeros of their form.",
        ),
        check_alike(
            result.state,
            kept,
            f"the state that {who} keeps",
            "Declare it: client_state(weights) gives the first one.",
        ),
    )


def check_updated(
    updated: Any, weights: Sequence[tf.Tensor], state: Any, name: str
) -> tuple[list[tf.Tensor], Any]:
    """Returns what `server_update` returned.

    Raises:
      StructureError: it is not a pair like (weights, state).
    """
    who = f"server_update of {name!r}"
    if not isinstance(updated, (tuple, list)) or len(updated) != 2:
        raise StructureError(
            f"what {who} returns is {describe(updated)}: expected a pair (weights, state)"
        )
    remedy = "It keeps the form that server_init gives it, so that a checkpoint fits."
    return (
        check_weights(updated[0], weights, f"the weights that {who} returns"),
        check_alike(updated[1], state, f"the state that {who} returns", remedy),
    )


def describe(nest: Any) -> str:
    """A nest as text, such as [float32[3,2], float32[]]."""
    text = str(tf.nest.map_structure(_describe_leaf, nest)).replace("'", "")
    return textwrap.shorten(text, 160, placeholder=" ...")


def _describe_leaf(leaf):
    if leaf is None:
        return "None"
    if not tf.is_tensor(leaf) and not hasattr(leaf, "dtype"):
        return f"a {type(leaf).__name__}"
    if isinstance(leaf.shape, tf.TensorShape) and leaf.shape.rank is None:
        return f"{tf.as_dtype(leaf.dtype).name}[?]"
    sizes = ("?" if size is None else str(size) for size in leaf.shape)
    return f"{tf.as_dtype(leaf.dtype).name}[{','.join(sizes)}]"


def _fits(given, like):
    """Whether a loop takes `given` for `like`: it may not know less of its shape."""
    if given.dtype != like.dtype or not given.shape.is_compatible_with(like.shape):
        return False
    if like.shape.rank is None:
        return True
    return given.shape.rank is not None and all(
        a is not None or b is None for a, b in zip(given.shape, like.shape)
    )
