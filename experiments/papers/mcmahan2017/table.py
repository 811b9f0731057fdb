"""The rows of tables 1 and 2 of McMahan et al. 2017, and the settings of each."""

import json
import math
import pathlib
import re
from typing import NamedTuple

# Rounds to the target. Table 1 (2NN, C = 0.1) and table 2 (CNN and LSTM).
PUBLISHED = {
    "2nn_iid_fedsgd": 1474,
    "2nn_iid_e1_b10": 87,
    "2nn_shards_fedsgd": 1796,
    "2nn_shards_e1_b10": 664,
    "cnn_iid_fedsgd": 626,
    "cnn_iid_e5_binf": 179,
    "cnn_iid_e1_b50": 65,
    "cnn_iid_e20_binf": 234,
    "cnn_iid_e1_b10": 34,
    "cnn_iid_e5_b50": 29,
    "cnn_iid_e20_b50": 32,
    "cnn_iid_e5_b10": 20,
    "cnn_iid_e20_b10": 18,
    "cnn_shards_fedsgd": 483,
    "cnn_shards_e5_binf": 1000,
    "cnn_shards_e1_b50": 600,
    "cnn_shards_e20_binf": 672,
    "cnn_shards_e1_b10": 350,
    "cnn_shards_e5_b50": 334,
    "cnn_shards_e20_b50": 426,
    "cnn_shards_e5_b10": 229,
    "cnn_shards_e20_b10": 173,
    "shakespeare_iid_fedsgd": 2488,
    "shakespeare_iid_e1_b50": 1635,
    "shakespeare_iid_e5_binf": 613,
    "shakespeare_iid_e1_b10": 460,
    "shakespeare_iid_e5_b50": 401,
    "shakespeare_iid_e5_b10": 192,
    "shakespeare_role_fedsgd": 3906,
    "shakespeare_role_e1_b50": 549,
    "shakespeare_role_e5_binf": 597,
    "shakespeare_role_e1_b10": 164,
    "shakespeare_role_e5_b50": 152,
    "shakespeare_role_e5_b10": 41,
}
UNPUBLISHED = ("2nn_iid_e5_b10", "2nn_shards_e5_b10")
"""Rows that the paper does not have."""
ROWS = (*PUBLISHED, *UNPUBLISHED)
TARGETS = {"2nn": 0.97, "cnn": 0.99, "shakespeare": 0.54}
MODELS = {"2nn": "2NN", "cnn": "CNN", "shakespeare": "LSTM"}
PARTITIONS = {"iid": "IID", "shards": "shards", "role": "by role"}

RATES = pathlib.Path(__file__).with_name("rates.json")
"""What `tune.py` has found."""

_NAME = re.compile(r"(2nn|cnn|shakespeare)_(iid|shards|role)_(?:fedsgd|e(\d+)_b(\d+|inf))")


class Method(NamedTuple):
    """What a row of the tables trains.

    Attributes:
      model: "2nn", "cnn" or "shakespeare".
      partition: "iid", "shards" or "role".
      epochs: local epochs, E.
      batch_size: B, None for all examples of a client.
      fedsgd: whether clients send one gradient.
    """

    model: str
    partition: str
    epochs: int
    batch_size: int | None
    fedsgd: bool

    @property
    def title(self) -> str:
        """Returns the name in tables and figures, such as "E = 5, B = 10"."""
        if self.fedsgd:
            return "FedSGD"
        return f"FedAvg, E = {self.epochs}, B = {self.batch_size or '∞'}"

    @property
    def place(self) -> str:
        """Returns model and partition, such as "CNN, IID"."""
        return f"{MODELS[self.model]}, {PARTITIONS[self.partition]}"


def method(name: str) -> Method:
    """Returns what a case trains, by its name.

    Example:
      >>> method("cnn_iid_e5_b10").title
      'FedAvg, E = 5, B = 10'
    """
    model, partition, epochs, batch_size = _NAME.fullmatch(name).groups()
    if epochs is None:
        return Method(model, partition, 1, None, True)
    return Method(
        model, partition, int(epochs), None if batch_size == "inf" else int(batch_size), False
    )


def rate(power: int) -> float:
    """Returns a rate of the grid.

    Example:
      >>> rate(-4)
      0.0464
    """
    return float(f"{10 ** (power / 3):.3g}")


def tuned() -> dict:
    """Returns the accuracies on the grid by row: {"rounds": ..., "accuracy": {rate: ...}}."""
    return json.loads(RATES.read_text(encoding="utf-8")) if RATES.exists() else {}


def best_rate(name: str) -> float:
    """Returns the tuned rate of a row, or that of the nearest row that was tuned.

    E = 20 uses the rate of E = 5, B = 50 that of B = 10, and B = ∞ that of FedSGD. The other rows
    of the LSTM use 1, which Reddi et al. 2021 have found for the same layers and FedAvg.
    """
    what = method(name)
    near = "fedsgd" if what.batch_size is None else f"e{min(what.epochs, 5)}_b10"
    found = tuned().get(f"{what.model}_{what.partition}_{near}")
    if found is None and what.model == "shakespeare":
        return 1.0
    return float(max(found["accuracy"], key=found["accuracy"].get))


def row(name: str, rate: float, max_rounds: int | None = None, evaluate_every: int | None = None):
    """Returns the settings of a row.

    Args:
      name: of the row.
      rate: the clients' learning rate.
      max_rounds: when to give up. Default: 1.5 times the published number.
      evaluate_every: rounds between evaluations. Default: 60 evaluations in all.
    """
    max_rounds = max_rounds or math.ceil(1.5 * PUBLISHED[name])
    every = evaluate_every or max(1, max_rounds // 60)
    return {"rate": rate, "max_rounds": max_rounds, "evaluate_every": every}
