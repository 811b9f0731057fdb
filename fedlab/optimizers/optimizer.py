"""What an optimizer is: a pair of pure functions, for clients and for the server."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from fedlab import _checks, ops
from fedlab.ops import Nest, Tensor, Weights
from fedlab.optimizers.schedules import Schedule

Rate = float | Schedule


class Apply(Protocol):
    """A step: (weights, state, gradients, round_num) -> (weights, state)."""

    def __call__(
        self, weights: Weights, state: Nest, gradients: Weights, round_num: Any = None
    ) -> tuple[Weights, Nest]: ...


class Optimizer(NamedTuple):
    """An optimizer without hidden state.

    Attributes:
      name: the name of the function that makes it.
      settings: the arguments of that function.
      init: weights -> state. `weights` is a list of float tensors, `state` a nest of tensors.
      apply: (weights, state, gradients, round_num=None) -> (weights, state). Shapes and dtypes
        stay the same. `round_num` is needed if the learning rate is a schedule.
      part: positions -> the `Optimizer` for the weights at these positions, or None if all
        weights are treated alike; see the function `part`.
    """

    name: str
    settings: dict[str, Any]
    init: Callable[[Weights], Nest]
    apply: Apply
    part: Callable[[Sequence[int]], "Optimizer"] | None = None


def check(optimizer: Any) -> Optimizer:
    """Returns an `Optimizer`, or raises TypeError for anything else."""
    if not isinstance(optimizer, Optimizer):
        raise _checks.type_error(
            "optimizer", optimizer, "an optimizer of fedlab.optimizers, such as sgd(1.0)"
        )
    return optimizer


def in_round(optimizer: Optimizer, round_num: Any) -> Optimizer:
    """The optimizer with the learning rate that its schedule gives for one round."""

    def select(positions):
        return in_round(part(optimizer, positions), round_num)

    apply = functools.partial(optimizer.apply, round_num=round_num)
    return optimizer._replace(apply=apply, part=select)


def part(optimizer: Optimizer, positions: Sequence[int]) -> Optimizer:
    """The optimizer for some of the model's weights.

    A model may treat its weights differently: some have a constraint or are excluded from
    weight decay. An algorithm that passes only some weights to an optimizer selects them first.

    Args:
      optimizer: an `Optimizer` for all weights.
      positions: the positions of the selected weights in the list of all weights.

    Returns:
      An `Optimizer` whose `init` and `apply` take the selected weights.
    """
    return optimizer.part(tuple(positions)) if optimizer.part else optimizer


def constrained(
    optimizer: Optimizer, constraints: Sequence[Callable[[Tensor], Tensor] | None]
) -> Optimizer:
    """The optimizer with a projection of each weight after each step, as in Keras.

    Args:
      optimizer: an `Optimizer`.
      constraints: for each weight a function such as `keras.constraints.MaxNorm()`, or None.
    """
    if not any(constraints):
        return optimizer

    def apply(weights, state, gradients, round_num=None):
        check_all(weights, constraints, "constraints")
        weights, state = optimizer.apply(weights, state, gradients, round_num)
        return [c(w) if c else w for w, c in zip(weights, constraints)], state

    def select(positions):
        return constrained(part(optimizer, positions), [constraints[i] for i in positions])

    return optimizer._replace(apply=apply, part=select)


def check_all(weights: Sequence, expected: Sequence, what: str) -> None:
    """Raises ValueError if an optimizer for all weights receives another number of them."""
    if len(weights) != len(expected):
        raise ValueError(
            f"optimizer: expected {len(expected)} weights, to which the model's {what} apply, "
            f"got {len(weights)}: pass all weights, or use optimizers.part(optimizer, positions)"
        )


def check_rate(learning_rate: Any) -> None:
    """Raises ValueError unless it is a number of at least 0 or a schedule."""
    if not isinstance(learning_rate, Schedule):
        _checks.check_number("learning_rate", learning_rate, 0, what="or a schedule over rounds")


def rate_in_round(learning_rate: Rate, round_num: Any) -> Any:
    """The rate in a round: the number itself, or a float64 scalar tensor."""
    if not isinstance(learning_rate, Schedule):
        return learning_rate
    if round_num is None:
        raise ValueError(
            f"round_num=None: expected the number of the round, on which the schedule "
            f"{learning_rate.name!r} depends"
        )
    return learning_rate(round_num)


def cast_like(rate: Any, weight: Tensor) -> Any:
    """A rate in the dtype of a weight. A Python number stays as it is."""
    return ops.cast(rate, weight.dtype) if ops.is_tensor(rate) else rate


def zeros_like(weights: Weights) -> Weights:
    """Zeros of the weights' shapes and dtypes."""
    return [ops.zeros_like(w) for w in weights]
