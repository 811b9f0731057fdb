"""Callbacks: code that runs after each round of a simulation.

A callback can stop the run, keep the best model, or log to a tracker.
"""

from fedlab.callbacks.best_model import BestModel
from fedlab.callbacks.callback import Callback, Round
from fedlab.callbacks.early_stopping import EarlyStopping
from fedlab.callbacks.mlflow import MLflow
from fedlab.callbacks.wandb import WandB

__all__ = ["BestModel", "Callback", "EarlyStopping", "MLflow", "Round", "WandB"]
