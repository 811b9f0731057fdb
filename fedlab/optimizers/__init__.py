"""Optimizers of clients and of the server, and schedules over rounds, as pure functions."""

from fedlab.optimizers import schedules
from fedlab.optimizers.optimizers import Optimizer, adagrad, adam, adamw, rmsprop, sgd, yogi
from fedlab.optimizers.yogi import Yogi

__all__ = ["Optimizer", "Yogi", "adagrad", "adam", "adamw", "rmsprop", "schedules", "sgd", "yogi"]
