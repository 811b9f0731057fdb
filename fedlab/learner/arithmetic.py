"""An estimate of what a model computes for one example, from its layers and their shapes."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fedlab.learner import graph

Shape = tuple[int | None, ...]

_keras = tf.keras.layers

# Layers without products of matrices.
_NO_PRODUCTS = {
    getattr(_keras, name)
    for name in """
    Activation Add AlphaDropout Average AveragePooling1D AveragePooling2D AveragePooling3D
    BatchNormalization Concatenate Cropping1D Cropping2D Cropping3D Dropout ELU Embedding Flatten
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalMaxPooling1D GlobalMaxPooling2D InputLayer LayerNormalization LeakyReLU Masking
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Multiply Normalization PReLU Permute
    ReLU RepeatVector Rescaling Reshape Softmax SpatialDropout1D SpatialDropout2D Subtract
    UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
}
# Operations of Keras 3 that compute the mask of an Embedding or a Masking layer.
_MASKS = ("NotEqual", "Any")
_CONVOLUTIONS = {
    getattr(_keras, name)
    for name in "Conv1D Conv2D Conv3D DepthwiseConv2D SeparableConv1D SeparableConv2D".split()
}
_TRANSPOSED = {_keras.Conv1DTranspose, _keras.Conv2DTranspose, _keras.Conv3DTranspose}
_RECURRENT = {_keras.GRU, _keras.LSTM, _keras.SimpleRNN}


class _Unknown(Exception):
    """The arithmetic of a layer is not known."""


def multiply_adds(model: tf.keras.Model) -> int | None:
    """Returns the multiplications and additions of one example's forward pass.

    For each call of a layer, these are the size of its kernels times the number of
    positions, such as pixels or time steps, to which they are applied. Only products of
    matrices and convolutions count. Embeddings, activations, pooling and normalization
    count nothing.

    Returns:
      The number, or None if it is not known: the model is subclassed, a number of
      positions depends on the data, or there is a layer other than those that this
      module lists, such as an attention, a custom layer or an operation on tensors.
    """
    try:
        return _of_model(model)
    except _Unknown:
        return None


def _of_model(model):
    if not graph.is_functional(model):
        raise _Unknown
    return sum(_of_layer(*call) for call in graph.calls(model))


def _of_layer(layer, inputs: Shape, outputs: Shape):
    kind = type(layer)
    if kind in _NO_PRODUCTS or (kind.__name__ in _MASKS and not isinstance(layer, _keras.Layer)):
        return 0
    if isinstance(layer, tf.keras.Model):
        # Its own inputs may have other dimensions than those that it is called on.
        if tuple(layer.inputs[0].shape)[1:] != inputs[1:]:
            raise _Unknown
        return _of_model(layer)
    count = _COUNTS.get(kind)
    if count is None:
        raise _Unknown
    return count(layer, inputs, outputs)


def _size(shape):
    """The number of values of one example."""
    if None in shape[1:]:
        raise _Unknown
    return math.prod(shape[1:])


def _kernels(layer):
    """The size of all weights of a layer, except biases."""
    return sum(math.prod(w.shape) for w in layer.weights if len(w.shape) > 1)


def _dense(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * (_size(outputs) // layer.units)


def _convolution(layer, inputs, outputs):
    channel_axis = 1 if layer.data_format == "channels_first" else -1
    return _kernels(layer) * (_size(outputs) // outputs[channel_axis])


def _transposed(layer, inputs, outputs):
    channel_axis = 1 if layer.data_format == "channels_first" else -1
    return _kernels(layer) * (_size(inputs) // inputs[channel_axis])


def _recurrent(layer, inputs, outputs):
    if inputs[1] is None:
        raise _Unknown
    cell = layer.cell
    return inputs[1] * (math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape))


def _bidirectional(layer, inputs, outputs):
    both = layer.forward_layer, layer.backward_layer
    return sum(_of_layer(each, inputs, outputs) for each in both)


_COUNTS: dict[type, Callable[[Any, Shape, Shape], int]] = {
    _keras.Dense: _dense,
    _keras.Bidirectional: _bidirectional,
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_TRANSPOSED, _transposed),
    **dict.fromkeys(_RECURRENT, _recurrent),
}
