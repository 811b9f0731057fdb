"""Keras models: builders, loading, and the pretrained weights that ship with the package."""

from fedlab.models.char_rnn import char_rnn

__all__ = ["char_rnn"]
