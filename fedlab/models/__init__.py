"""Keras models: builders, loading, text generation, and the pretrained weights that ship with the package."""

from fedlab.models.char_rnn import char_rnn, compile_char_rnn
from fedlab.models.cloning import clone
from fedlab.models.generation import generate
from fedlab.models.loading import load
from fedlab.models.shipped import names

__all__ = ["char_rnn", "clone", "compile_char_rnn", "generate", "load", "names"]
