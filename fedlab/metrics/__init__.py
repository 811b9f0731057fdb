"""Metrics that need more than a batch: `spans` reads answers off a model's logits, `squad` scores them."""

from fedlab.metrics import spans, squad

__all__ = ["spans", "squad"]
