"""Optimizers of clients and of the server, and schedules over rounds, as pure functions."""

from fedlab._modules import lazily
from fedlab.optimizers import schedules
from fedlab.optimizers.adagrad import adagrad
from fedlab.optimizers.adam import adam, adamw
from fedlab.optimizers.optimizer import (
    Optimizer,
    check,
    check_rate,
    constrained,
    in_round,
    part,
)
from fedlab.optimizers.rmsprop import rmsprop
from fedlab.optimizers.sgd import sgd
from fedlab.optimizers.yogi import yogi

# What depends on Keras is imported when first used.
__getattr__ = lazily(
    __name__,
    {
        "Yogi": "fedlab.learner",
        "check_model": "fedlab.learner",
        "from_keras": "fedlab.learner",
        "of_model": "fedlab.learner",
    },
    modules=["fedlab.optimizers"],  # for callers that import fedlab.optimizers.optimizers
)[0]

__all__ = [
    "Optimizer",
    "Yogi",
    "adagrad",
    "adam",
    "adamw",
    "check",
    "check_model",
    "check_rate",
    "constrained",
    "from_keras",
    "in_round",
    "of_model",
    "part",
    "rmsprop",
    "schedules",
    "sgd",
    "yogi",
]
