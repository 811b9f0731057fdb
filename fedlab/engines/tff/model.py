"""A compiled Keras model as TFF's `VariableModel`."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from fedlab.clients.columns import keras_batch
from fedlab.learner.keras2.blueprint import Blueprint, check_reads, forget_losses, weight_shapes
from fedlab.learner.keras2.graph import input_names


class KerasVariableModel(tff.learning.models.VariableModel):
    """One client's model in TFF's graphs.

    Args:
      blueprint: how to build the model.
      count_tokens: whether a batch has the weight of its tokens, which are the positions
        with a sample weight above 0, instead of its examples.
      summed: name -> initial state of the metrics to report, one array per variable.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        count_tokens: bool,
        summed: Mapping[str, Sequence[Any]],
    ):
        self._model = blueprint.build()
        check_reads(self._model)
        if weight_shapes(self._model) != blueprint.weight_shapes:
            raise RuntimeError(
                f"TFF's copy has weights of shapes {weight_shapes(self._model)}: expected the "
                f"model's, {blueprint.weight_shapes}"
            )
        self._spec = blueprint.spec
        self._count_tokens = count_tokens
        self._summed = summed
        self._losses = blueprint.losses(self._model)
        self._loss_metric = tf.keras.metrics.Mean(name="loss")
        self._compiled_metrics = blueprint.metrics(self._model)
        self._metrics = [self._loss_metric, *self._compiled_metrics.metrics]
        self._finished = tf.Variable(1.0, trainable=False, name="finished")

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The trainable weights."""
        return self._model.trainable_variables

    @property
    def non_trainable_variables(self) -> list[tf.Variable]:
        """The non-trainable weights."""
        return self._model.non_trainable_variables

    @property
    def local_variables(self) -> list[tf.Variable]:
        """The metrics' variables, which the client does not send."""
        return [self._finished, *(v for metric in self._metrics for v in metric.variables)]

    @property
    def input_spec(self) -> Mapping[str, tf.TensorSpec]:
        """Column name -> tf.TensorSpec of a batch."""
        return self._spec

    def predict_on_batch(self, batch_input: Any, training: bool = True) -> Any:
        """Returns the model's outputs."""
        return self._model(batch_input, training=training)

    def forward_pass(
        self, batch_input: Mapping[str, tf.Tensor], training: bool = True
    ) -> tff.learning.models.BatchOutput:
        """Computes loss and outputs of a batch and updates the metrics."""
        x, y, sample_weight = (*keras_batch(batch_input, input_names(self._model)), None)[:3]
        forget_losses(self._model)
        predictions = self._model(x, training=training)
        loss = self._losses(y, predictions, sample_weight, regularization_losses=self._model.losses)
        self._compiled_metrics.update_state(y, predictions, sample_weight)
        num_examples, num_tokens = _counts(y, sample_weight)
        self._loss_metric.update_state(loss, sample_weight=num_examples)
        self._finished.assign(tf.cast(tf.math.is_finite(loss), tf.float32))
        return tff.learning.models.BatchOutput(
            loss, predictions, num_tokens if self._count_tokens else num_examples
        )

    def report_local_unfinalized_metrics(self) -> OrderedDict[str, list]:
        # Without the initial state, which TFF would add once per client.
        """Returns the metrics' states as increments, and whether the client finished."""
        values = OrderedDict(
            (
                metric.name,
                [
                    v.read_value() - before
                    for v, before in zip(metric.variables, self._summed[metric.name])
                ],
            )
            for metric in self._metrics
            if metric.name in self._summed
        )
        values["finished"] = [self._finished.read_value()]
        return values

    def metric_finalizers(self) -> OrderedDict[str, Any]:
        # TFF returns the sums. The metrics are computed from them in Python.
        """Returns identities."""
        return OrderedDict(
            (name, tf.function(lambda values: values))
            for name in self.report_local_unfinalized_metrics()
        )

    def reset_metrics(self) -> None:
        # TFF calls this at the end of a client whose update is not finite. TFF's Mime calls it
        # for every client before the training, whose batches set `_finished` again.
        """Resets the metrics; the client then counts as not finished."""
        self._finished.assign(0.0)
        for metric in self._metrics:
            for variable, before in zip(metric.variables, self._summed.get(metric.name, ())):
                variable.assign(before)


def _counts(y, sample_weight):
    if sample_weight is None:
        rows = tf.shape(tf.nest.flatten(y)[0])[0]
        return rows, rows
    counted = tf.cast(sample_weight > 0, tf.int32)
    tokens = tf.reduce_sum(tf.reshape(counted, [tf.shape(counted)[0], -1]), axis=1)  # [batch]
    return tf.reduce_sum(tf.cast(tokens > 0, tf.int32)), tf.reduce_sum(tokens)
