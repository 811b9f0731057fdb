"""Keras models: builders, loading, copying, freezing, and shipped pretrained weights."""

from fedlab.learner import clone, freeze
from fedlab.models import bert
from fedlab.models.char_rnn import char_rnn, compile_char_rnn
from fedlab.models.loading import load
from fedlab.models.shipped import names

__all__ = ["bert", "char_rnn", "clone", "compile_char_rnn", "freeze", "load", "names"]
