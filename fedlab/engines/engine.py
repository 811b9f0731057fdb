"""What an engine is: the place where client work runs.

    process = engine.start(setting)                              # may take seconds
    state = process.init(trainable, non_trainable)
    state, result = process.run_round(state, round_num, cohort)  # once per round
    outputs = process.map(work, items)                           # other work, such as evaluation
    trainable, non_trainable = process.weights(state)
    arrays = process.save(state)                                 # for a checkpoint
    state = process.restore(state, arrays)
    process.close()                                              # also after errors and signals

Weights are lists in the order of the Keras model's `trainable_weights` and of
`non_trainable_weights(model)`. `state` is a nest of arrays that belongs to the engine.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fedlab.aggregators import Aggregator
from fedlab.algorithms import Algorithm
from fedlab.clients import Batching, ClientData
from fedlab.learner import non_trainable_weights, statistics, weight_name
from fedlab.learner.learner import Merger, Metrics


class Setting(NamedTuple):
    """Everything that an engine needs to know before the first round.

    Attributes:
      model: a compiled Keras model with the initial weights. The engine does not change it.
      build: makes another compiled model of the same architecture, with its own weights.
      clients: the `ClientData` that cohorts are drawn from.
      algorithm: an `Algorithm`.
      aggregator: an `Aggregator`.
      batching: a `Batching`.
      seed: int.
      non_trainable: what happens to non-trainable weights that training changes, such as the
        statistics of BatchNormalization: "average" or "broadcast"; see `averaged_weights`.
      precision: "float32", or "bfloat16": layers of clients compute in bfloat16, while weights and
        evaluation stay float32.
      conditions: what share of its steps a client takes,
        `(client_id, round_num, seed) -> fedlab.clients.Participation`, or None.
      client_learning_rate: a `Schedule` over rounds in place of the optimizer's own learning
        rate, or None.
      client_states: the `ClientStates` that stores what clients keep between rounds, or None for a
        temporary one.
      class_weight: class -> weight of its examples in the training loss, or None.
      client_history: the `ClientHistory` of the rounds so far, or None before the first.
      num_workers: how many threads work, or None for one per core or device.
    """

    model: Any
    build: Callable[[], Any]
    clients: ClientData
    algorithm: Algorithm
    aggregator: Aggregator
    batching: Batching
    seed: int
    non_trainable: str = "average"
    precision: str = "float32"
    conditions: Callable | None = None
    client_learning_rate: Any = None
    client_states: Any = None
    class_weight: dict | None = None
    client_history: Any = None
    num_workers: int | None = None


class Work(NamedTuple):
    """One kind of client work, which an engine maps over items.

    Items are clients, blocks of clients, or parts of a data set.

    Attributes:
      key: tells the work's graph from others.
      make: (replica) -> a `tf.function` of (*shared, *data).
      shared: nests of tensors that are the same for all items, such as the weights.
      prepare: (item) -> (data, about): nests of tensors [n, ...] for the graph, of any n, and
        whatever the caller wants to know about the item.
    """

    key: Hashable
    make: Callable
    shared: tuple
    prepare: Callable[[Any], tuple[tuple, Any]]


class RoundResult(NamedTuple):
    """What a round reports.

    Attributes:
      metrics: name -> float over the training of the clients whose updates are finite, "loss"
        first, in Keras's names. All are None if no such client had an example.
      clients: one dict per client, in cohort order: client_id, num_examples, num_tokens,
        num_steps, weight, loss, dropped (bool: its update was not finite), and metrics, a dict of
        its other training metrics, name -> float. A value that the engine does not know is None,
        as is the loss of a client without examples, which has no metrics.
      num_finished: how many clients' updates were finite.
      aggregator: name -> float, metrics of the aggregator.
      more_bytes_down, more_bytes_up: what the algorithm sends to and from each client in addition
        to the weights and their delta.
      local_bytes: the size of the trainable weights that are not sent
        (`Algorithm.local_weights`).
    """

    metrics: dict[str, float | None]
    clients: list[dict[str, Any]]
    num_finished: int
    aggregator: dict[str, float]
    more_bytes_down: int = 0
    more_bytes_up: int = 0
    local_bytes: int = 0


class Mapper(Protocol):
    """Maps client work."""

    def map(self, work: Work, items: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """Yields (outputs of the work's graph, `about`) for each item, in order."""

    @property
    def metrics(self) -> Metrics:
        """The model's `Metrics`. Their results may be computed between two calls of `map`."""

    @property
    def merger(self) -> Merger:
        """The `Merger` of the model's metrics. First read between two calls of `map`."""

    def close(self) -> None:
        """Ends threads and processes."""


class Process(Mapper, Protocol):
    """Runs the rounds of one simulation, and maps other client work."""

    @property
    def metric_names(self) -> list[str]:
        """The names of the training metrics that rounds report, "loss" first."""

    def init(self, trainable: Sequence[Any], non_trainable: Sequence[Any]) -> Any:
        """The state before the first round."""

    def run_round(
        self, state: Any, round_num: int, cohort: Sequence[str]
    ) -> tuple[Any, RoundResult]:
        """Trains the cohort and updates the global model.

        Args:
          state: from `init`, `restore` or the last round.
          round_num: 1 or more.
          cohort: ids of the clients whose updates arrive.

        Returns:
          The next state, and a `RoundResult`.
        """

    def weights(self, state: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The global model's trainable and non-trainable weights as NumPy arrays."""

    def device_weights(self, state: Any) -> tuple[list[Any], list[Any]]:
        """The same as arrays or tensors that need not be copied for `map`."""

    def save(self, state: Any) -> list[np.ndarray]:
        """The state for a checkpoint."""

    def restore(self, state: Any, arrays: Sequence[np.ndarray]) -> Any:
        """The state that `save` returned `arrays` for; `state` is any state of this process."""


def averaged_weights(setting: Setting) -> dict[int, str]:
    """Which non-trainable weights are averaged over the clients.

    Returns:
      Index in the model's non-trainable weights -> name.

    Raises:
      ValueError: `setting.non_trainable` is neither "average" nor "broadcast".
    """
    model, policy = setting.model, setting.non_trainable
    if policy not in ("average", "broadcast"):
        raise ValueError(f"non_trainable={policy!r}: expected 'average' or 'broadcast'")
    changing = {id(w) for w in statistics(model)} if policy == "average" else ()
    return {
        i: weight_name(w) for i, w in enumerate(non_trainable_weights(model)) if id(w) in changing
    }
