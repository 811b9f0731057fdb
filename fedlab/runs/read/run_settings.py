"""The settings of recorded runs: listed, compared and shown."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlab.runs.format import FOR_PEOPLE, LAYERS

if TYPE_CHECKING:
    from fedlab.runs.read.recorded import RecordedRun

_HASH = re.compile("[0-9a-f]{64}")
_OF_KERAS = ("loss", "metrics", "weighted_metrics", "optimizer")
_OPERATIONS = {"TFOpLambda", "SlicingOpLambda"}  # which are layers in Keras 2 only
_NOT_SETTINGS = {"format_version", "versions", "commit", "rounds", "stopped", *FOR_PEOPLE}


def flat(config: Mapping[str, Any], layers: bool = False) -> dict[str, Any]:
    """Returns the settings of a run by name, nested ones as "batching.batch_size".

    Args:
      config: the contents of config.json.
      layers: whether to include the settings of each layer, such as "layers[2].rate".

    Example:
      >>> layers = [{"rate": 0.5}]
      >>> flat({"seed": 0, "batching": {"batch_size": 8}, "layers": layers, "commit": None})
      {'seed': 0, 'batching.batch_size': 8}
    """
    left_out = _NOT_SETTINGS if layers else {*_NOT_SETTINGS, *LAYERS}
    return dict(_flat("", {name: each for name, each in config.items() if name not in left_out}))


def differing(runs: Sequence["RecordedRun"]) -> dict[str, list[Any]]:
    """Returns the settings that differ, each with its value in every run.

    A value is None if a run lacks the setting. The settings of layers are compared if the
    models have the same kinds of layers and the runs the same stack. Keras 2 and Keras 3
    have different settings of layers, losses, metrics and optimizers. Between stacks, those
    of layers are left out, and of the others those that a run lacks. Equal settings with
    different names in Keras 2 and Keras 3 do not differ.
    """
    one_stack = len({run.config.get("stack") for run in runs}) == 1
    one_model = all(run.config.get("model") == runs[0].config.get("model") for run in runs)
    tables = [flat(run.config, one_stack and one_model) for run in runs]
    names = [
        name
        for name in dict.fromkeys(name for table in tables for name in table)
        if one_stack or not name.startswith(_OF_KERAS) or all(name in table for table in tables)
    ]
    values = {name: [table.get(name) for table in tables] for name in names}
    return {
        name: each
        for name, each in values.items()
        if any(value != each[0] for value in each)
        and (one_stack or any(_common(name, v) != _common(name, each[0]) for v in each))
    }


def _common(name: str, value: Any) -> Any:
    """A setting as both stacks would record it."""
    if name == "model" and isinstance(value, list):
        return [kind for kind in value if kind not in _OPERATIONS]
    if name.startswith(_OF_KERAS) and name.endswith(".reduction") and value == "auto":
        return "sum_over_batch_size"
    return value


def shown(name: str, value: Any) -> str:
    """Returns the value of a setting as text.

    Example:
      >>> shown("optimizer.learning_rate", 0.30000001192092896), shown("cohort", None)
      ('0.3', 'null')
      >>> shown("client_ids", "9a59ebda" * 8)
      '9a59ebda'
    """
    if isinstance(value, str):
        return value[:8] if _HASH.fullmatch(value) else value
    if name == "model" and isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            single = np.float32(value)
        if single == value:  # Keras keeps hyperparameters in float32
            return min(json.dumps(value), str(single), key=len)
    return json.dumps(value)


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not path):
        for name, each in value.items():
            yield from _flat(f"{path}.{name}" if path else name, each)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for i, each in enumerate(value):
            yield from _flat(f"{path}[{i}]", each)
    else:
        yield path, value
