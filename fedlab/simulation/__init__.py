"""The round loop, evaluation, and the run folder."""

from fedlab.simulation.evaluation import evaluate
from fedlab.simulation.personalization import evaluate_personalized
from fedlab.simulation.simulate import Run, simulate

__all__ = ["Run", "evaluate", "evaluate_personalized", "simulate"]
