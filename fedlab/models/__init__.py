"""Keras models: builders, loading, text generation, answers to questions, and the pretrained weights that ship with the package."""

from fedlab.models import bert
from fedlab.models.answering import answer
from fedlab.models.char_rnn import char_rnn, compile_char_rnn
from fedlab.models.cloning import clone
from fedlab.models.freezing import freeze
from fedlab.models.generation import generate
from fedlab.models.loading import load
from fedlab.models.shipped import names
from fedlab.models.yogi import Yogi

__all__ = ["Yogi", "answer", "bert", "char_rnn", "clone", "compile_char_rnn", "freeze", "generate", "load", "names"]
