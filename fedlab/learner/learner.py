"""The interface of a learner: a compiled Keras model as functions of its weights.

Engines trace the client work of `fedlab.engines.client_work` with these functions.
Algorithms receive `Learner.gradients` as `Task.gradients`. An implementation for
another version of Keras provides the classes here and the functions that
`fedlab.learner` lists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from fedlab.clients import ClientData

    Weights = Sequence[tf.Tensor]
    Columns = Mapping[str, np.ndarray]


class Batch(NamedTuple):
    """One batch as the model takes it.

    Attributes:
      x: the inputs: a tensor [rows, ...], or a dict of them by input name.
      y: the targets in the same form, or None.
      sample_weight: float [rows, ...] in the same form as the targets, or None.
      num_examples: float32 scalar, the number of rows that are not padding.
    """

    x: Any
    y: Any
    sample_weight: Any
    num_examples: tf.Tensor | float


class Metrics(Protocol):
    """The metrics of one model, the loss first.

    Attributes:
      names: the names of the results.
      initial: the state before any batch, one array per variable.
      variables: the variables that hold the state.
    """

    names: list[str]
    initial: list[np.ndarray]
    variables: list[tf.Variable]

    def __iter__(self) -> Iterator[Any]:
        """Iterates over the Keras metrics."""

    def results(
        self, state: Sequence[np.ndarray], without: Collection[str] = ()
    ) -> dict[str, float]:
        """Returns name -> value of the results in a state.

        This overwrites the variables, so no graph may use them at the same time.

        Args:
          state: one array per variable.
          without: names of metrics to leave out.
        """

    def training_results(
        self, state: Sequence[np.ndarray], without: Collection[str] = ()
    ) -> dict[str, float | None]:
        """Returns the same as `results`, or None for each if there was no example."""

    def results_in_graph(self) -> tf.Tensor:
        """Returns the current results, float32 [values], in the order of `names`."""


class Merger(Protocol):
    """Merges the metric states of several clients, or of several parts of a data set.

    Attributes:
      initial: the state before any batch, one array per variable.
      unmergeable: names of metrics that need all batches in one stream.
    """

    initial: list[np.ndarray]
    unmergeable: list[str]

    def merge(
        self, total: Sequence[np.ndarray] | None, states: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Returns one state for several streams of batches.

        Of an unmergeable metric, the state of the last stream is kept.

        Args:
          total: the state merged so far, or None.
          states: one array [streams, ...] per variable. Each stream starts from
            `initial`.
        """


class Learner(Protocol):
    """A compiled model whose weights, metrics and random draws are explicit.

    The methods are called while a graph is traced. They keep weights and metrics in the
    variables of the model, so only one graph at a time may run with a learner. What a
    graph computes depends only on its inputs if it first sets what it uses: weights,
    metric state, recurrent states and seed.

    Attributes:
      model: the compiled Keras model. Nothing else may use it.
      fixed_size: the batch size that the model was built for, or None for any.
    """

    model: Any
    fixed_size: int | None

    @property
    def metrics(self) -> Metrics:
        """The metrics of the model, the loss first."""

    def batch(self, columns: Mapping[str, tf.Tensor], num_examples: tf.Tensor | float) -> Batch:
        """Returns the columns of one batch, name -> [rows, ...], as the model takes them."""

    def gradients(
        self, weights: Weights, batch: Batch, measure: bool = True, update_statistics: bool = True
    ) -> list[tf.Tensor]:
        """Returns the gradients of the compiled loss, regularization included.

        Args:
          weights: the trainable weights.
          batch: a batch of training data.
          measure: whether the batch counts in the training metrics.
          update_statistics: whether to update non-trainable weights such as the moving
            averages of BatchNormalization, as `fit` does.

        Returns:
          One dense tensor per trainable weight.
        """

    def test(self, batch: Batch) -> None:
        """Updates the metrics with a batch, without training."""

    def weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the current weights: (trainable, non-trainable)."""

    def set_weights(
        self, trainable: Weights | None = None, non_trainable: Weights | None = None
    ) -> None:
        """Overwrites the trainable weights, the non-trainable weights, or both."""

    def metric_state(self) -> list[tf.Tensor]:
        """Returns the current state of the metrics."""

    def set_metric_state(self, state: Sequence[Any]) -> None:
        """Overwrites the state of the metrics."""

    def reset_recurrent_states(self) -> None:
        """Sets the states of stateful recurrent layers to zero."""

    def seed(self, seed: tf.Tensor) -> None:
        """Seeds the random draws of layers such as Dropout.

        Args:
          seed: int64 scalar. The same seed gives the same draws.
        """

    def check_graph(self, graph: tf.Graph) -> None:
        """Checks a graph that was traced with this learner.

        Raises:
          ValueError: the graph reads a weight of the model that this learner's model
            was copied from.
        """

    def merger(self, data: ClientData | Columns) -> Merger:
        """Returns the merger of the metrics. No graph may run at the same time.

        Args:
          data: examples on which metrics with custom code are tried.

        Raises:
          ValueError: a metric has no variables, or its `merge_state` fails.
        """
