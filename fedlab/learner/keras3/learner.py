"""The `Learner` of a compiled Keras 3 model, for TensorFlow graphs."""

import contextlib
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fedlab.clients import ClientData
from fedlab.clients.columns import keras_batch
from fedlab.learner import unused
from fedlab.learner.inputs import as_fit_rounds, fixed_batch_size
from fedlab.learner.keras3 import recurrent, seeds
from fedlab.learner.keras3.cloning import (
    CopyError,
    ancestors,
    is_adapted,
    non_trainable_weights,
)
from fedlab.learner.keras3.freezing import statistics
from fedlab.learner.keras3.graph import input_names, layers_of
from fedlab.learner.learner import Batch
from fedlab.learner.metric_state import Merger, Metrics, Named
from fedlab.learner.variables import assign, leaves, values, variables_of


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
        model: keras.Model,
        columns: Mapping[str, np.ndarray],
        fast_recurrence: bool = True,
    ) -> None:
        self.model = model
        self._models = [model, *ancestors(model)]
        self._written = []  # weights that layers change when they are called
        _check_variables(model)
        if fast_recurrence:
            recurrent.accelerate(model)
        self.fixed_size = fixed_batch_size(model)
        self._trainable = variables_of(model.trainable_variables)
        self._non_trainable = variables_of(non_trainable_weights(model))
        self._statistics = variables_of(statistics(model))
        changing = {id(v) for v in self._statistics}
        self._fixed = [w for w in model.weights if id(w.value) not in changing]
        self._recurrent_states = recurrent.recurrent_states(model)
        self._generators = seeds.generators(model)
        self._loss = keras.metrics.Mean(name="loss")
        self._num_examples = None  # of the batch that is measured
        self._build_metrics(columns)
        self.metrics = Metrics(self._named_metrics())

    def _build_metrics(self, columns):
        num_weights = len(self.model.weights)
        size = self.fixed_size or 1
        rows = {
            name: tf.convert_to_tensor(_rows_like(column, size)) for name, column in columns.items()
        }
        batch = self.batch(rows, float(size))
        try:
            self._forward(batch, training=False)
        except (ValueError, TypeError, KeyError, tf.errors.InvalidArgumentError) as error:
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
        if len(self.model.weights) != num_weights:
            raise ValueError(
                f"model {self.model.name!r} makes weights when it is called: expected one that is "
                "built; call it on a batch first, in the function that returns it"
            )

    def _named_metrics(self):
        """The metrics and the names of their results, as in the logs of `fit`; the loss first."""
        # Keras's own loss is averaged over rows that may be padding.
        named, model = [Named("loss", self._loss)], self.model
        losses = model._compile_loss
        for metric in losses.metrics if losses is not None else ():
            metric.update_state = functools.partial(self._update_loss, type(metric), metric)
            named.append(Named(metric.name, metric))
        compiled = model._compile_metrics
        if compiled is not None and compiled.metrics:
            results = [*compiled.result()]
            if len(results) != len(compiled.metrics):
                names = [metric.name for metric in compiled.metrics]
                raise ValueError(
                    f"model {model.name!r} has the metrics {names}, of which Keras shows only "
                    f"{results}: expected different names; set name="
                )
            named += map(Named, results, compiled.metrics)
        known = {id(each.metric) for each in named}
        known |= {id(metric) for metric in (model._loss_tracker, compiled)}
        named += [Named(m.name, m) for m in model.metrics if id(m) not in known]
        return named

    def _update_loss(self, cls, metric, value, sample_weight=None):
        """Updates the mean loss of one output, weighted by examples, as the mean of the sum."""
        if self._num_examples is not None:
            cls.update_state(metric, value, sample_weight=self._num_examples)

    def batch(self, columns: Mapping[str, tf.Tensor], num_examples: Any) -> Batch:
        """See `Learner`."""
        columns = as_fit_rounds(columns, self.model)
        x, y, sample_weight = (*keras_batch(columns, input_names(self.model)), None, None)[:3]
        return Batch(x, y, sample_weight, num_examples)

    def _forward(self, batch, training, measure=True):
        model = self.model
        options = {"training": training} if model._call_has_training_arg else {}
        predicted = model(batch.x, **options)
        self._num_examples = batch.num_examples if measure else None
        weight = _aligned(batch.sample_weight, predicted)
        loss = model._compute_loss(batch.x, batch.y, predicted, weight, training=training)
        if measure:
            self._loss.update_state(loss, sample_weight=batch.num_examples)
            if type(model).compute_metrics is not keras.Model.compute_metrics:
                model.compute_metrics(batch.x, batch.y, predicted, weight)
            elif model._compile_metrics is not None:  # without the results
                model._compile_metrics.update_state(batch.y, predicted, weight)
        return loss

    def gradients(
        self,
        weights: Sequence[tf.Tensor],
        batch: Batch,
        measure: bool = True,
        update_statistics: bool = True,
    ) -> list[tf.Tensor]:
        """See `Learner`."""
        kept = [] if update_statistics else self._statistics
        before = values(kept)
        assign(self._trainable, weights)
        with tf.GradientTape() as tape, _noting_writes(self._fixed, self._written):
            loss = self._forward(batch, training=True, measure=measure)
        gradients = tape.gradient(loss, self._trainable)
        assign(kept, before)
        return unused.dense(gradients, self._trainable, self._models)

    def test(self, batch: Batch) -> None:
        """See `Learner`."""
        self._forward(batch, training=False)

    def weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """See `Learner`."""
        return values(self._trainable), values(self._non_trainable)

    def set_weights(
        self,
        trainable: Sequence[tf.Tensor] | None = None,
        non_trainable: Sequence[tf.Tensor] | None = None,
    ) -> None:
        """See `Learner`."""
        if trainable is not None:
            assign(self._trainable, trainable)
        if non_trainable is not None:
            assign(self._non_trainable, non_trainable)

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
        assign(self._generators, seeds.starts(len(self._generators), seed))

    def check_graph(self, graph: tf.Graph) -> None:
        """See `Learner`. Also warns about random draws that cannot be seeded."""
        captured = {id(outside) for outside, _ in graph.captures}
        unused.check_any_used(self.model)
        if self._written:
            raise ValueError(
                f"a layer changes the weight {self._written[0]!r} when it is called, as "
                "SpectralNormalization does: expected layers whose trainable and frozen weights "
                "only the optimizer changes"
            )
        _check_captures(self.model, captured)
        _warn_of_unseeded_draws(graph.as_graph_def(), captured)

    def merger(self, data: ClientData | Mapping[str, np.ndarray]) -> Merger:
        """See `Learner`."""
        return Merger(self, data)


def _check_variables(model):
    """Raises ValueError for variables that Keras does not know.

    They would neither be copied nor start from the same value at each client.
    """
    for layer in (model, *layers_of(model)):
        for name, value in vars(layer).items() if not is_adapted(layer) else ():
            if name.startswith("_self_"):  # TensorFlow's list of the same variables
                continue
            if any(isinstance(each, tf.Variable) for each in leaves(value)):
                raise ValueError(
                    f"layer {layer.name!r} keeps a tf.Variable in {name!r}, which Keras 3 neither "
                    "trains nor saves: expected a weight of self.add_weight(...)"
                )


@contextlib.contextmanager
def _noting_writes(weights, written):
    """Appends the paths of those weights that the operations traced meanwhile write to.

    An algorithm does not see such changes of a weight: its step starts from the weight
    before them. `fit` keeps them.
    """
    if tf.executing_eagerly():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    yield
    handles = {id(inside): id(outside) for outside, inside in graph.captures}
    changed = {
        handles.get(id(operation.inputs[0]))
        for operation in graph.get_operations()[before:]
        if operation.type in _WRITES
    }
    written += [w.path for w in weights if id(w.value.handle) in changed]


_WRITES = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")


def _aligned(sample_weight, predicted):
    """Sample weights that Keras multiplies with the losses of whole rows.

    Keras 3 multiplies losses [rows, positions] by weights [rows] without adding an axis:
    it fails, or weights positions if there are as many of them as rows.
    """

    def aligned(weight, output):
        missing = len(output.shape) - 1 - len(weight.shape)
        return weight[(..., *[None] * missing)] if missing > 0 else weight

    if sample_weight is None:
        return None
    if keras.tree.is_nested(sample_weight):
        return keras.tree.map_structure(aligned, sample_weight, predicted)
    outputs = keras.tree.flatten(predicted)
    if all(len(output.shape) - 1 <= len(sample_weight.shape) for output in outputs):
        return sample_weight
    return keras.tree.map_structure(lambda output: aligned(sample_weight, output), predicted)


def _check_captures(model, captured):
    """Raises CopyError if a graph reads a weight of a model that `model` is a copy of."""
    for original in ancestors(model):
        for weight in original.variables:
            if id(weight.value.handle) in captured:
                raise CopyError(
                    f"a loss, metric or layer of model {model.name!r} reads the weight "
                    f"{weight.path!r} of the original: expected one that reads the copy; pass a "
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


def _warn_of_unseeded_draws(definition, captured):
    nodes = [
        *definition.node,
        *(node for function in definition.library.function for node in function.node_def),
    ]
    what = ", ".join(sorted({node.op for node in nodes} & _UNSEEDED))
    generator = seeds.global_generator()
    if what:
        what += " (tf.random)"
    elif generator is not None and id(generator.handle) in captured:
        what = "keras.random without a seed"
    if what:
        warnings.warn(
            f"the model draws from {what}, which cannot be seeded per client, so runs are not "
            "reproducible. Draw with a Keras layer such as GaussianNoise, or with keras.random and "
            "seed=self.generator, a keras.random.SeedGenerator that the layer makes in __init__.",
            stacklevel=2,
        )


def _rows_like(column, size):
    """The first row of a column, `size` times. Without a row: zeros or empty strings."""
    if len(column):
        return column[[0] * size]
    return np.full([size, *column.shape[1:]], "" if column.dtype == object else 0, column.dtype)
