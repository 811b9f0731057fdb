"""One worker's own copy of the model, and what a graph can do with it."""

import ctypes
import threading
import warnings
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.data.columns import keras_batch
from fedlab.engines import metric_state, recurrent
from fedlab.engines.batches import fixed_batch_size
from fedlab.engines.inputs import input_names
from fedlab.models.cloning import CopyError, ancestors
from fedlab.models.freezing import statistics

_tracing = threading.Lock()


class Interrupted(BaseException):
    """Ends the tracing of a graph that nobody waits for any more."""


class Batch(NamedTuple):
    """One batch as the model takes it. `num_examples` is a float32 scalar: rows that are not padding."""

    x: Any
    y: Any
    sample_weight: Any
    num_examples: Any


class Replica:
    """A compiled model whose variables a worker may overwrite, with its metrics' variables laid open.

    Args:
      model: a compiled Keras model that nobody else uses.
      columns: a few rows of data, name -> [n, ...], from which Keras builds its metrics.
      device: the name of the device that the model's variables are on, or None for TensorFlow's choice.
    """

    def __init__(self, model, columns, device=None):
        self.model = model
        self.device = device
        if not on_gpu(device):  # there cuDNN runs Keras's own recurrent layers
            recurrent.accelerate(model)
        self.fixed_size = fixed_batch_size(model)
        self._recurrent_states = []
        self._generators = []
        for layer in model._flatten_layers(include_self=False):
            if getattr(layer, "stateful", False) and getattr(layer, "states", None) is not None:
                self._recurrent_states += [s for s in tf.nest.flatten(layer.states) if s is not None]
            if hasattr(layer, "_random_generator"):
                # Keras's default draws from one counter of the process; this one can be set at the start of each client.
                layer._random_generator = type(layer._random_generator)(seed=0, rng_type="stateful")
                layer._random_generator._maybe_init()
                self._generators.append(layer._random_generator._generator)
        self.loss = tf.keras.metrics.Mean(name="loss")
        self._build_metrics(columns)
        # Keras's own first metric is the same loss, averaged over rows that may be padding. An own compute_loss has none.
        keras_loss = model.compiled_loss.metrics[:1]
        self.metrics = [self.loss, *(m for m in model.metrics if not any(m is loss for loss in keras_loss))]
        self.metric_variables = [variable for metric in self.metrics for variable in metric.variables]
        self.metric_names = [*metric_state.columns_of(self.metrics)]  # raises now what every round would
        self.initial_metrics = [values for metric in self.metrics for values in metric_state.initial_state(metric)]
        with tf.device("CPU:0"):
            self.stopping = tf.Variable(False, trainable=False)  # graphs that train several clients end after the one at work
        self._functions = {}
        self._tracing_thread, self._interrupting = None, threading.Lock()

    def _build_metrics(self, columns):
        size = self.fixed_size or 1
        one = {name: tf.convert_to_tensor(_rows_like(column, size)) for name, column in columns.items()}
        batch = self.batch(one, float(size))
        try:
            self._forward(batch, training=False)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            forms = ", ".join(f"{name!r}: {column.dtype} {list(column.shape[1:])}" for name, column in columns.items())
            raise ValueError(
                f"model {self.model.name!r} or its loss cannot take rows of {forms} ({reason:.200}): map the clients' data first."
            ) from error

    def function(self, key, make, weights, data):
        """The graph of `make(self)`, a tf.function of (*weights, *data), traced once for a key, for any number of rows in `data`."""
        data_specs = tf.nest.map_structure(_any_number, data)
        key = key, str(data_specs)  # data of another form is another graph
        if key not in self._functions:
            specs = *tf.nest.map_structure(_fixed, weights), *data_specs
            self._functions[key] = self._trace(lambda: make(self).get_concrete_function(*specs))
            _check_captures(self.model, self._functions[key].graph)
            _warn_of_unseeded_draws(self._functions[key].graph.as_graph_def())
        return self._functions[key]

    def _trace(self, trace):
        """Returns `trace()`, which `interrupt_tracing` can end."""
        try:
            with self._interrupting:
                self._tracing_thread = threading.get_ident()
            with _tracing:
                return trace()
        finally:
            # An exception that is still pending for this thread would be raised later, in any code.
            # In the thread pool's, it would end the thread before others get the result they wait for.
            while self._tracing_thread is not None:
                try:
                    with self._interrupting:
                        self._tracing_thread = None
                        _set_pending(threading.get_ident(), None)
                except Interrupted:
                    pass

    def interrupt_tracing(self):
        """Raises `Interrupted` in a thread that traces a graph, which takes seconds for a large model."""
        with self._interrupting:
            if self._tracing_thread is not None:
                _set_pending(self._tracing_thread, ctypes.py_object(Interrupted))

    def batch(self, columns, num_examples):
        """Columns of one batch, [rows, ...], as a `Batch`."""
        x, y, sample_weight = (*keras_batch(columns, input_names(self.model)), None, None)[:3]
        return Batch(x, y, sample_weight, num_examples)

    def _forward(self, batch, training, measure=True):
        predicted = tf.nest.map_structure(_unrounded, self.model(batch.x, training=training))
        loss = self.model.compute_loss(batch.x, batch.y, predicted, batch.sample_weight)
        if measure:
            self.loss.update_state(loss, sample_weight=batch.num_examples)
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
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        assign(kept, before)
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        for gradient, variable in zip(gradients, variables):
            gradient.set_shape(variable.shape)  # TensorFlow does not know it where rows of any length come in
        return gradients

    def test(self, batch):
        """Updates the metrics without training."""
        self._forward(batch, training=False)

    @property
    def has_recurrent_states(self):
        """Whether a layer's state goes on from batch to batch."""
        return bool(self._recurrent_states)

    def metric_results(self):
        """In a graph: what the metrics give now, float32 [values], in the order of `metric_names`."""
        results = tf.nest.flatten([[*r.values()] if isinstance(r, dict) else r for r in (m.result() for m in self.metrics)])
        values = tf.concat([tf.reshape(tf.cast(result, tf.float32), [-1]) for result in results], axis=0)
        return tf.ensure_shape(values, [len(self.metric_names)])

    def reset_metrics(self):
        assign(self.metric_variables, self.initial_metrics)

    def reset_recurrent_states(self):
        for state in self._recurrent_states:
            state.assign(tf.zeros_like(state))

    def seed(self, seed):
        """Sets all random draws of the layers (dropout, noise). `seed`: int64 scalar tensor."""
        for i, generator in enumerate(self._generators):
            generator.state.assign(tf.stack([tf.zeros([], tf.int64), tf.constant(i, tf.int64), seed]))


def _set_pending(thread, exception):
    """Makes Python raise an exception in a thread, by its identifier; None clears one that it has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


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
_UNSEEDED = {"RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal", "RandomShuffle", "RandomGamma", "Multinomial"}


def _warn_of_unseeded_draws(definition):
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
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


def on_gpu(device):
    return device is not None and tf.DeviceSpec.from_string(device).device_type == "GPU"


def assign(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(value)


def _fixed(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _any_number(tensor):
    # How many steps and clients there are changes from call to call.
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
