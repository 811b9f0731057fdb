"""The `Learner` of a compiled Keras 2 model, for TensorFlow graphs."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab.clients import ClientData
from fedlab.clients.columns import keras_batch
from fedlab.learner import unused
from fedlab.learner.inputs import as_fit_rounds, fixed_batch_size
from fedlab.learner.keras2 import recurrent
from fedlab.learner.keras2.cloning import CopyError, ancestors, non_trainable_weights
from fedlab.learner.keras2.freezing import statistics
from fedlab.learner.keras2.graph import input_names, layers_of
from fedlab.learner.learner import Batch
from fedlab.learner.metric_state import Merger, Metrics, Named
from fedlab.learner.variables import assign, values


class KerasLearner:
    """Implements `fedlab.learner.learner.Learner`.

    Args:
      model: a compiled Keras model that nothing else uses.
      columns: a few rows of data, name -> [n, ...], from which Keras builds its
        metrics.
      fast_recurrence: whether recurrent layers use fedlab's loops instead of Keras's.

    Attributes:
      model: the model.
      metrics: its `Metrics`, the loss first.
      fixed_size: the batch size that the model was built for, or None for any.

    Raises:
      ValueError: the model or its loss cannot process the columns.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        columns: Mapping[str, np.ndarray],
        fast_recurrence: bool = True,
    ) -> None:
        self.model = model
        self._models = [model, *ancestors(model)]
        if fast_recurrence:
            recurrent.accelerate(model)
        self.fixed_size = fixed_batch_size(model)
        self._recurrent_states = recurrent.recurrent_states(model)
        self._generators = []
        for layer in layers_of(model):
            if hasattr(layer, "_random_generator"):
                # Keras's default draws from one counter per process. The state of this
                # generator can be set at the start of each client.
                layer._random_generator = type(layer._random_generator)(seed=0, rng_type="stateful")
                layer._random_generator._maybe_init()
                self._generators.append(layer._random_generator._generator)
        self._loss = tf.keras.metrics.Mean(name="loss")
        self._build_metrics(columns)
        # Keras's own first metric is the same loss, but averaged over rows that may be
        # padding. A model with its own compute_loss has no such metric.
        keras_loss = [id(metric) for metric in model.compiled_loss.metrics[:1]]
        metrics = [self._loss, *(m for m in model.metrics if id(m) not in keras_loss)]
        self.metrics = Metrics(Named(metric.name, metric) for metric in metrics)

    def _build_metrics(self, columns):
        size = self.fixed_size or 1
        rows = {
            name: tf.convert_to_tensor(_rows_like(column, size)) for name, column in columns.items()
        }
        batch = self.batch(rows, float(size))
        try:
            self._forward(batch, training=False)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            reason = next(
                (line.strip() for line in str(error).splitlines() if line.strip()),
                type(error).__name__,
            )
            forms = ", ".join(
                f"{name!r}: {column.dtype} {list(column.shape[1:])}"
                for name, column in columns.items()
            )
            raise ValueError(
                f"clients have rows of {forms}: expected rows that model {self.model.name!r} and "
                f"its loss can process ({reason:.200}); map the clients' data first"
            ) from error

    def batch(self, columns: Mapping[str, tf.Tensor], num_examples: Any) -> Batch:
        """See `Learner`."""
        columns = as_fit_rounds(columns, self.model)
        x, y, sample_weight = (*keras_batch(columns, input_names(self.model)), None, None)[:3]
        return Batch(x, y, sample_weight, num_examples)

    def _forward(self, batch, training, measure=True):
        predicted = tf.nest.map_structure(_unrounded, self.model(batch.x, training=training))
        loss = self.model.compute_loss(batch.x, batch.y, predicted, batch.sample_weight)
        if measure:
            self._loss.update_state(loss, sample_weight=batch.num_examples)
            self.model.compute_metrics(batch.x, batch.y, predicted, batch.sample_weight)
        return loss

    def gradients(
        self,
        weights: Sequence[tf.Tensor],
        batch: Batch,
        measure: bool = True,
        update_statistics: bool = True,
    ) -> list[tf.Tensor]:
        """See `Learner`."""
        variables = self.model.trainable_variables
        kept = [] if update_statistics else statistics(self.model)
        before = [v.read_value() for v in kept]
        assign(variables, weights)
        with tf.GradientTape() as tape:
            loss = self._forward(batch, training=True, measure=measure)
        gradients = tape.gradient(loss, variables)
        assign(kept, before)
        return unused.dense(gradients, variables, self._models)

    def test(self, batch: Batch) -> None:
        """See `Learner`."""
        self._forward(batch, training=False)

    def weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """See `Learner`."""
        return values(self.model.trainable_variables), values(non_trainable_weights(self.model))

    def set_weights(
        self,
        trainable: Sequence[tf.Tensor] | None = None,
        non_trainable: Sequence[tf.Tensor] | None = None,
    ) -> None:
        """See `Learner`."""
        if trainable is not None:
            assign(self.model.trainable_variables, trainable)
        if non_trainable is not None:
            assign(non_trainable_weights(self.model), non_trainable)

    def metric_state(self) -> list[tf.Tensor]:
        """See `Learner`."""
        return values(self.metrics.variables)

    def set_metric_state(self, state: Sequence[Any]) -> None:
        """See `Learner`."""
        assign(self.metrics.variables, state)

    def reset_recurrent_states(self) -> None:
        """See `Learner`."""
        for state in self._recurrent_states:
            state.assign(tf.zeros_like(state))

    def seed(self, seed: tf.Tensor) -> None:
        """See `Learner`."""
        for i, generator in enumerate(self._generators):
            generator.state.assign(
                tf.stack([tf.zeros([], tf.int64), tf.constant(i, tf.int64), seed])
            )

    def check_graph(self, graph: tf.Graph) -> None:
        """See `Learner`. Also warns about random draws that cannot be seeded."""
        unused.check_any_used(self.model)
        _check_captures(self.model, graph)
        _warn_of_unseeded_draws(graph.as_graph_def())

    def merger(self, data: ClientData | Mapping[str, np.ndarray]) -> Merger:
        """See `Learner`."""
        return Merger(self, data)


def _check_captures(model, graph):
    """Raises CopyError if a graph reads a weight of a model that `model` is a copy of."""
    captured = {id(outside) for outside, _ in graph.captures}
    for original in ancestors(model):
        for weight in original.weights:
            if id(getattr(weight, "handle", None)) in captured:
                raise CopyError(
                    f"a loss, metric or layer of model {model.name!r} reads the weight "
                    f"{weight.name!r} of the original: expected one that reads the copy; pass a "
                    "function that builds the model together with its losses and metrics"
                )


# Operations whose numbers depend on what the process drew before.
_UNSEEDED = {
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
    "RandomShuffle",
    "RandomGamma",
    "Multinomial",
}


def _warn_of_unseeded_draws(definition):
    nodes = [
        *definition.node,
        *(node for function in definition.library.function for node in function.node_def),
    ]
    unseeded = sorted({node.op for node in nodes} & _UNSEEDED)
    if unseeded:
        warnings.warn(
            f"the model draws from {', '.join(unseeded)} (tf.random), which cannot be seeded per "
            "client, so runs are not reproducible. Draw with a Keras layer such as GaussianNoise, "
            "or with self._random_generator of a tf.keras.__internal__.layers.BaseRandomLayer.",
            stacklevel=2,
        )


def _rows_like(column, size):
    """The first row of a column, `size` times. Without a row: zeros or empty strings."""
    if len(column):
        return column[[0] * size]
    return np.full([size, *column.shape[1:]], "" if column.dtype == object else 0, column.dtype)


def _unrounded(predicted):
    """Casts bfloat16 outputs to float32, for losses and metrics."""
    return tf.cast(predicted, tf.float32) if predicted.dtype == tf.bfloat16 else predicted
