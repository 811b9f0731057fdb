"""An evaluation of the global model during a simulation."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedlab.engines.engine import Mapper


class Global(NamedTuple):
    """The global model that is evaluated.

    Attributes:
      engine: maps the evaluation over clients.
      weights: (trainable, non-trainable) weights, lists of arrays or tensors.
      round_num: the round after which it is evaluated; 0 before training.
      make_model: () -> a compiled Keras model that holds the weights.
    """

    engine: Mapper
    weights: tuple[list[Any], list[Any]]
    round_num: int
    make_model: Callable[[], Any]


class Evaluation(NamedTuple):
    """One evaluation of the global model.

    Attributes:
      name: the prefix of the metrics' names.
      settings: a dict for the run's identity. `examples`: the number of examples, or
        the name of a function. `data`: () -> a fingerprint of the data set, or the
        function.
      run: (`Global`) -> (metric -> number, rows of the table `evaluations`).
      every_round: whether it runs after every round, whatever `evaluate_every` says.
    """

    name: str
    settings: dict[str, Any]
    run: Callable[[Global], tuple[dict[str, float], list[dict[str, Any]]]]
    every_round: bool = False
