"""Keras models: builders, loading, text generation, and the pretrained weights that ship with the package."""

from fedlab.models import bert
from fedlab.models.char_rnn import char_rnn, compile_char_rnn
from fedlab.models.cloning import clone
from fedlab.models.freezing import freeze
from fedlab.models.generation import generate
from fedlab.models.loading import load
from fedlab.models.shipped import names

__all__ = ["bert", "char_rnn", "clone", "compile_char_rnn", "freeze", "generate", "load", "names"]
