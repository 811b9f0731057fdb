"""A compiled Keras 2 model as functions of its weights, for TensorFlow graphs."""

import warnings

import numpy as np
import tensorflow as tf

from fedlab.clients.columns import keras_batch
from fedlab.learner.keras2 import metric_state, recurrent
from fedlab.learner.keras2.cloning import CopyError, ancestors, non_trainable_weights
from fedlab.learner.keras2.freezing import statistics
from fedlab.learner.keras2.inputs import fixed_batch_size, input_names
from fedlab.learner.learner import Batch


class KerasLearner:
    """A compiled model whose variables graphs may overwrite.

    Its methods are called while a graph is traced. They read and write the model's variables, so one
    graph at a time may run with one learner.

    Args:
      model: a compiled Keras model that nobody else uses.
      columns: a few rows of data, name -> [n, ...], from which Keras builds its metrics.
      fast_recurrence: whether recurrent layers run in loops of fedlab's instead of Keras's.

    Attributes:
      model: the model.
      metrics: its `Metrics`, the loss first.
      fixed_size: the batch size that the model is built for, or None for any.
    """

    def __init__(self, model, columns, fast_recurrence=True):
        self.model = model
        if fast_recurrence:
            recurrent.accelerate(model)
        self.fixed_size = fixed_batch_size(model)
        self._recurrent_states = recurrent_states(model)
        self._generators = []
        for layer in model._flatten_layers(include_self=False):
            if hasattr(layer, "_random_generator"):
                # Keras's default draws from one counter of the process; this one can be set at the start of each client.
                layer._random_generator = type(layer._random_generator)(seed=0, rng_type="stateful")
                layer._random_generator._maybe_init()
                self._generators.append(layer._random_generator._generator)
        self._loss = tf.keras.metrics.Mean(name="loss")
        self._build_metrics(columns)
        # Keras's own first metric is the same loss, averaged over rows that may be padding. A
        # model with its own compute_loss has none.
        keras_loss = [id(metric) for metric in model.compiled_loss.metrics[:1]]
        self.metrics = metric_state.Metrics(
            [self._loss, *(m for m in model.metrics if id(m) not in keras_loss)]
        )

    def _build_metrics(self, columns):
        size = self.fixed_size or 1
        one = {
            name: tf.convert_to_tensor(_rows_like(column, size)) for name, column in columns.items()
        }
        batch = self.batch(one, float(size))
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
                f"model {self.model.name!r} or its loss cannot take rows of {forms} ({reason:.200}): map the clients' data first."
            ) from error

    def batch(self, columns, num_examples):
        """Columns of one batch, [rows, ...], as a `Batch`."""
        x, y, sample_weight = (*keras_batch(columns, input_names(self.model)), None, None)[:3]
        return Batch(x, y, sample_weight, num_examples)

    def _forward(self, batch, training, measure=True):
        predicted = tf.nest.map_structure(_unrounded, self.model(batch.x, training=training))
        loss = self.model.compute_loss(batch.x, batch.y, predicted, batch.sample_weight)
        if measure:
            self._loss.update_state(loss, sample_weight=batch.num_examples)
            self.model.compute_metrics(batch.x, batch.y, predicted, batch.sample_weight)
        return loss

    def gradients(self, weights, batch, measure=True, update_statistics=True):
        """Gradients of the compiled loss (regularization included) at `weights`, dense.

        Args:
          weights: a list of tensors like the model's trainable weights.
          batch: a `Batch`.
          measure: whether the batch counts in the training metrics.
          update_statistics: whether statistics such as BatchNormalization's follow the batch, as in
            Keras's `fit`.
        """
        variables = self.model.trainable_variables
        kept = [] if update_statistics else statistics(self.model)
        before = [v.read_value() for v in kept]
        assign(variables, weights)
        with tf.GradientTape() as tape:
            loss = self._forward(batch, training=True, measure=measure)
        gradients = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        assign(kept, before)
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        for gradient, variable in zip(gradients, variables):
            gradient.set_shape(
                variable.shape
            )  # TensorFlow does not know it where rows of any length come in
        return gradients

    def test(self, batch):
        """Updates the metrics without training."""
        self._forward(batch, training=False)

    def weights(self):
        """The model's weights: (trainable, non-trainable), lists of tensors."""
        parts = self.model.trainable_variables, non_trainable_weights(self.model)
        return tuple([variable.read_value() for variable in variables] for variables in parts)

    def set_weights(self, trainable=None, non_trainable=None):
        """Overwrites the model's weights, or one of the two lists."""
        if trainable is not None:
            assign(self.model.trainable_variables, trainable)
        if non_trainable is not None:
            assign(non_trainable_weights(self.model), non_trainable)

    def metric_state(self):
        """The metrics' state: a list of tensors."""
        return [variable.read_value() for variable in self.metrics.variables]

    def set_metric_state(self, state):
        """Overwrites the metrics' state."""
        assign(self.metrics.variables, state)

    def reset_recurrent_states(self):
        for state in self._recurrent_states:
            state.assign(tf.zeros_like(state))

    def seed(self, seed):
        """Sets all random draws of the layers (dropout, noise). `seed`: int64 scalar tensor."""
        for i, generator in enumerate(self._generators):
            generator.state.assign(
                tf.stack([tf.zeros([], tf.int64), tf.constant(i, tf.int64), seed])
            )

    def check_graph(self, graph):
        """Checks a graph that was traced with the model, see `Learner`."""
        _check_captures(self.model, graph)
        _warn_of_unseeded_draws(graph.as_graph_def())

    def merger(self, data):
        """The `Merger` of the metrics."""
        return metric_state.Merger(self, data)


def recurrent_states(model):
    """The variables in which stateful recurrent layers keep their states from batch to batch."""
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if getattr(layer, "stateful", False) and getattr(layer, "states", None) is not None
    ]
    states = (state for layer in layers for state in tf.nest.flatten(layer.states))
    return [state for state in states if state is not None]


def _check_captures(model, graph):
    """Raises CopyError where a replica's graph reads a weight of the model that the replica is a copy of."""
    captured = {id(outside) for outside, _ in graph.captures}
    for original in ancestors(model):
        for weight in original.weights:
            if id(getattr(weight, "handle", None)) in captured:
                raise CopyError(
                    f"a loss, metric or layer of model {model.name!r} reads the weight {weight.name!r} of the original, "
                    "not of its copy: pass a function that builds the model and them."
                )


# Draws whose numbers depend on what the process drew before.
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
            f"the model draws from {', '.join(unseeded)} (tf.random), whose numbers no seed can set for a client: another run will differ. "
            "Draw with a Keras layer such as GaussianNoise, or self._random_generator of a tf.keras.__internal__.layers.BaseRandomLayer.",
            stacklevel=2,
        )


def _rows_like(column, size):
    """So many rows as the column has: its first, or, of a client without examples, zeros or empty texts."""
    if len(column):
        return column[[0] * size]
    return np.full([size, *column.shape[1:]], "" if column.dtype == object else 0, column.dtype)


def _unrounded(predicted):
    """Losses and metrics of what a layer of bfloat16 gives are computed in float32."""
    return tf.cast(predicted, tf.float32) if predicted.dtype == tf.bfloat16 else predicted


def assign(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(value)
