"""Keras models: builders, loading, copying, freezing, and shipped pretrained weights."""

from fedlab.learner import clone, freeze
from fedlab.models import bert
from fedlab.models.char_rnn import char_rnn, compile_char_rnn
from fedlab.models.dense import dense
from fedlab.models.images import celeba_cnn, emnist_cnn, fedavg_cnn, lenet, two_nn
from fedlab.models.loading import load
from fedlab.models.resnet import resnet18
from fedlab.models.shipped import names
from fedlab.models.tabular import logistic_regression, matrix_factorization
from fedlab.models.words import next_word_lstm, sentiment_lstm, tag_regression

__all__ = [
    "bert",
    "celeba_cnn",
    "char_rnn",
    "clone",
    "compile_char_rnn",
    "dense",
    "emnist_cnn",
    "fedavg_cnn",
    "freeze",
    "lenet",
    "load",
    "logistic_regression",
    "matrix_factorization",
    "names",
    "next_word_lstm",
    "resnet18",
    "sentiment_lstm",
    "tag_regression",
    "two_nn",
]
