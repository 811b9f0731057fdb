"""The Keras model as TFF wants it: rebuilt in TFF's graphs, with all its weights, losses and metrics.

TFF traces in a plain `tf.Graph`, where Keras 2 is Keras of TensorFlow 1. Three things go wrong there, and are put right here:

- Recurrent cells whose configuration was read inside the graph cache the read of their weights (`enable_caching_device`): the model then
  computes with its initial weights, not with the server's. `Blueprint` reads the configuration outside and strips the option.
- Masks get lost where predictions leave a `tf.function`. Forward pass, loss and metrics are one function here.
- Making a layer swaps the base classes of its class, and every eager model of that class breaks. `keeping_eager_classes` swaps back.
"""

import contextlib
import copy
from collections import OrderedDict

import tensorflow as tf
import tensorflow_federated as tff
from keras.src.engine import compile_utils
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab.clients.columns import keras_batch
from fedlab.learner.keras2.cloning import non_trainable_weights
from fedlab.learner.keras2.copying import copy_metric
from fedlab.learner.keras2.inputs import input_names

_CACHING = "enable_caching_device"


@contextlib.contextmanager
def keeping_eager_classes():
    """Leaves the base classes of all Keras classes, and so all eager models, as they were before the `with` block."""
    before = {cls: cls.__bases__ for cls in _subclasses(tf.Module)}
    try:
        yield
    finally:
        for cls, bases in before.items():
            if cls.__bases__ != bases:
                cls.__bases__ = bases


def _subclasses(cls):
    found, todo = set(), [cls]
    while todo:
        for subclass in todo.pop().__subclasses__():
            if subclass not in found:
                found.add(subclass)
                todo.append(subclass)
    return found


class Blueprint:
    """What is needed to build a compiled Keras model anew in a graph. Made eagerly.

    Args:
      model: a compiled Sequential or Functional model.
      spec: column name -> tf.TensorSpec of a batch.

    Raises:
      ValueError: for a subclassed model.
    """

    def __init__(self, model, spec):
        if not getattr(model, "_is_graph_network", False):
            raise ValueError(
                f"engine 'tff' cannot copy {type(model).__name__}, a subclassed model; allowed: Sequential and Functional models."
            )
        tables = [
            layer.name
            for layer in model._flatten_layers()
            if isinstance(layer, PreprocessingLayer) and _has_constants(layer)
        ]
        if tables:
            raise ValueError(
                f"engine 'tff' cannot copy what layer {tables[0]!r} has learnt in adapt(): "
                "map the clients' data with it first, or use engine 'local'."
            )
        self.spec = spec
        self.target_spec = keras_batch(spec)[1]
        self.weight_names = (
            [v.name for v in model.trainable_variables],
            [v.name for v in model.non_trainable_variables],
        )
        self.weight_shapes = _shapes(model)
        self._cls = type(model)
        self._config = _strip(model.get_config())
        self._compiled = dict(model._compile_config.config)
        self._output_names = model.output_names

    def build(self):
        """The model, not compiled, with weights of its own."""
        return self._cls.from_config(copy.deepcopy(self._config))

    def losses(self, model):
        """Keras's own compiled loss, for the outputs of `model`."""
        container = compile_utils.LossesContainer(
            self._compiled["loss"],
            loss_weights=self._compiled.get("loss_weights"),
            output_names=self._output_names,
        )
        container.build(model._nested_outputs)
        return container

    def metrics(self, model):
        """Keras's own compiled metrics, new ones, for the outputs of `model`."""
        metrics, weighted_metrics = (
            tf.nest.map_structure(copy_metric, self._compiled.get(name))
            for name in ("metrics", "weighted_metrics")
        )
        container = compile_utils.MetricsContainer(
            metrics, weighted_metrics, output_names=self._output_names
        )
        container.build(model._nested_outputs, self.target_spec)
        return container


def _has_constants(layer):
    return hasattr(layer, "lookup_table") or len(non_trainable_weights(layer)) < len(
        layer.non_trainable_weights
    )


def _shapes(model):
    return [
        [tuple(v.shape) for v in weights]
        for weights in (model.trainable_variables, model.non_trainable_variables)
    ]


def _strip(config):
    if isinstance(config, dict):
        return {key: _strip(value) for key, value in config.items() if key != _CACHING}
    if isinstance(config, (list, tuple)):
        return type(config)([_strip(value) for value in config])
    return config


def check_reads(model):
    """Raises RuntimeError where the model would compute with values read before the server's weights were assigned."""
    cached = [v.name for v in model.variables if getattr(v, "_cached_value", None) is not None]
    if cached:
        raise RuntimeError(
            f"TFF would lose the weights {', '.join(cached)}: the model caches them ({_CACHING})."
        )


class KerasVariableModel(tff.learning.models.VariableModel):
    """One client's model in TFF's graphs.

    Args:
      blueprint: a `Blueprint`.
      count_tokens: whether a batch counts by its tokens, positions with a sample weight above zero, rather than by its examples.
      summed: name -> initial state of the metrics that are reported.
    """

    def __init__(self, blueprint, count_tokens, summed):
        self._model = blueprint.build()
        check_reads(self._model)
        if _shapes(self._model) != blueprint.weight_shapes:
            raise RuntimeError(
                f"TFF's copy has weights of shapes {_shapes(self._model)}, the model {blueprint.weight_shapes}."
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
    def trainable_variables(self):
        return self._model.trainable_variables

    @property
    def non_trainable_variables(self):
        return self._model.non_trainable_variables

    @property
    def local_variables(self):
        return [self._finished, *(v for metric in self._metrics for v in metric.variables)]

    @property
    def input_spec(self):
        return self._spec

    def predict_on_batch(self, batch_input, training=True):
        return self._model(batch_input, training=training)

    def forward_pass(self, batch_input, training=True):
        x, y, sample_weight = (*keras_batch(batch_input, input_names(self._model)), None)[:3]
        for layer in self._model._flatten_layers():
            del layer._losses[:]  # those of an earlier call, in another graph
        predictions = self._model(x, training=training)
        loss = self._losses(y, predictions, sample_weight, regularization_losses=self._model.losses)
        self._compiled_metrics.update_state(y, predictions, sample_weight)
        num_examples, num_tokens = _counts(y, sample_weight)
        self._loss_metric.update_state(loss, sample_weight=num_examples)
        self._finished.assign(tf.cast(tf.math.is_finite(loss), tf.float32))
        return tff.learning.models.BatchOutput(
            loss, predictions, num_tokens if self._count_tokens else num_examples
        )

    def report_local_unfinalized_metrics(self):
        # What they add to the initial state, which TFF would add up once for each client.
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

    def metric_finalizers(self):
        # The sums come back as they are: metrics are finalized in Python, once.
        return OrderedDict(
            (name, tf.function(lambda values: values))
            for name in self.report_local_unfinalized_metrics()
        )

    def reset_metrics(self):
        # TFF calls this at the end of a client whose update is not finite. TFF's Mime calls it for
        # every client, but before its training, whose batches count the client again.
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
