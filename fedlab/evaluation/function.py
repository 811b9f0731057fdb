"""Evaluation by a function of the caller, `(model, round_num) -> {metric: number}`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedlab.evaluation.evaluation import Evaluation, Global
from fedlab.learner import reset_states


def evaluation(name: str, function: Callable[[Any, int], dict[str, float]]) -> Evaluation:
    """The `Evaluation` by a function.

    One with the attributes `name` and `settings` is identified by them, any other by
    its code.
    """
    described = hasattr(function, "name") and hasattr(function, "settings")
    # A function's address would differ in every process.
    shown = getattr(function, "__qualname__", type(function).__qualname__)
    settings = {"examples": function if described else f"{shown}()", "data": lambda: function}
    every_round = bool(getattr(function, "every_round", False))
    return Evaluation(name, settings, lambda model: (_call(function, name, model), []), every_round)


def _call(function, name, model: Global):
    keras_model = model.make_model()
    reset_states(keras_model)  # an earlier evaluation may have left recurrent states
    metrics = function(keras_model, model.round_num)
    if not isinstance(metrics, dict) or not all(isinstance(metric, str) for metric in metrics):
        raise ValueError(
            f"evaluate_on[{name!r}] returned {metrics!r:.80}: expected a dict, metric -> number"
        )
    numbers = {}
    for metric, value in metrics.items():
        array = np.asarray(value)
        if array.ndim or array.dtype.kind not in "biuf":
            raise ValueError(
                f"evaluate_on[{name!r}] returned {metric}={value!r:.80}: expected a number"
            )
        numbers[metric] = array.item()  # a row has to become JSON
    return numbers
