"""Builds a compiled Keras model again in a plain `tf.Graph`, with its weights, losses and metrics.

TFF traces models in plain graphs, where Keras 2 behaves as it did in TensorFlow 1. Three
things go wrong there:

- Recurrent cells whose configuration was read inside the graph cache the read of their
  weights (`enable_caching_device`). The model then computes with its initial weights, not
  with the server's. `Blueprint` reads the configuration outside and removes the option.
- Masks are lost where predictions leave a `tf.function`. Forward pass, loss and metrics
  therefore have to be one function.
- Making a layer replaces the base classes of its class, which breaks every eager model of
  that class. `keeping_eager_classes` restores them.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from keras.src.engine import compile_utils
from keras.src.engine.base_preprocessing_layer import PreprocessingLayer

from fedlab.clients.columns import keras_batch
from fedlab.learner.copying import copy_metric
from fedlab.learner.keras2 import graph
from fedlab.learner.keras2.cloning import non_trainable_weights

_CACHING = "enable_caching_device"


@contextlib.contextmanager
def keeping_eager_classes() -> Iterator[None]:
    """Restores the base classes of all Keras classes at the end of the `with` block."""
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
    """What is needed to build a compiled Keras model in a graph. Make it eagerly.

    Args:
      model: a compiled Sequential or Functional model.
      spec: column name -> tf.TensorSpec of a batch.

    Attributes:
      spec: as above.
      weight_names: names of the trainable and of the non-trainable weights, two lists.
      weight_shapes: their shapes, two lists, as `weight_shapes` returns.

    Raises:
      ValueError: the model is subclassed, or has layers that have learned constants.
    """

    def __init__(self, model: tf.keras.Model, spec: Mapping[str, tf.TensorSpec]):
        if not graph.is_functional(model):
            raise ValueError(
                f"engine='tff' with a model of class {type(model).__name__}: expected a "
                "Sequential or Functional model, because a subclassed model cannot be copied; "
                "use engine='local'"
            )
        if adapted := _layers_with_constants(model):
            raise ValueError(
                f"engine='tff' with layer {adapted[0].name!r}: expected no layer with a "
                "vocabulary or bins from adapt(), which cannot be copied; map the clients' data "
                "with it first, or use engine='local'"
            )
        self.spec = spec
        self.weight_names = (
            [v.name for v in model.trainable_variables],
            [v.name for v in model.non_trainable_variables],
        )
        self.weight_shapes = weight_shapes(model)
        self._target_spec = keras_batch(spec)[1]
        self._cls = type(model)
        self._config = _without_caching(model.get_config())
        self._arguments = graph.compile_arguments(model)
        self._output_names = model.output_names

    def build(self) -> tf.keras.Model:
        """Returns the model, with new weights and not compiled."""
        return self._cls.from_config(copy.deepcopy(self._config))

    def losses(self, model: tf.keras.Model) -> compile_utils.LossesContainer:
        """Returns Keras's compiled loss for the outputs of `model`."""
        container = compile_utils.LossesContainer(
            self._arguments["loss"],
            loss_weights=self._arguments.get("loss_weights"),
            output_names=self._output_names,
        )
        container.build(model._nested_outputs)
        return container

    def metrics(self, model: tf.keras.Model) -> compile_utils.MetricsContainer:
        """Returns Keras's compiled metrics, as new objects, for the outputs of `model`."""
        metrics, weighted_metrics = (
            tf.nest.map_structure(copy_metric, self._arguments.get(name))
            for name in ("metrics", "weighted_metrics")
        )
        container = compile_utils.MetricsContainer(
            metrics, weighted_metrics, output_names=self._output_names
        )
        container.build(model._nested_outputs, self._target_spec)
        return container


def _layers_with_constants(model):
    """Layers with words or bins from `adapt()`, which are not among `non_trainable_weights`."""
    return [
        layer
        for layer in graph.layers_of(model)
        if isinstance(layer, PreprocessingLayer)
        and (
            hasattr(layer, "lookup_table")
            or len(non_trainable_weights(layer)) < len(layer.non_trainable_weights)
        )
    ]


def _without_caching(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _without_caching(value) for key, value in config.items() if key != _CACHING}
    if isinstance(config, (list, tuple)):
        return type(config)([_without_caching(value) for value in config])
    return config


def weight_shapes(model: tf.keras.Model) -> list[list[tuple]]:
    """Returns the shapes of the trainable and of the non-trainable weights, two lists."""
    return [
        [tuple(v.shape) for v in weights]
        for weights in (model.trainable_variables, model.non_trainable_variables)
    ]


def check_reads(model: tf.keras.Model) -> None:
    """Raises RuntimeError if a model caches weights before the server has set them."""
    cached = [v.name for v in model.variables if getattr(v, "_cached_value", None) is not None]
    if cached:
        raise RuntimeError(
            f"TFF would lose the weights {', '.join(cached)}: the model caches them ({_CACHING})"
        )


def forget_losses(model: tf.keras.Model) -> None:
    """Removes the losses that layers have added in an earlier call, which was in another graph."""
    for layer in (model, *graph.layers_of(model)):
        del layer._losses[:]
