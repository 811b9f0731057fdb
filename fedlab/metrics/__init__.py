"""Metrics that need more than a batch: `spans` reads answers off a model's logits, `squad` scores them, `Evaluator` does both.

`efficacy` counts the questions that a model has to be asked; `Probe` looks at a few examples as training goes on.
"""

from fedlab.metrics import efficacy, probe, spans, squad
from fedlab.metrics.probe import Probe
from fedlab.metrics.questions import Evaluator

__all__ = ["Evaluator", "Probe", "efficacy", "probe", "spans", "squad"]
