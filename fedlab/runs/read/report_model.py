"""The diagram of a model: its layers with shapes, parameters and connections."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedlab.runs.read.recorded import RecordedRun

_FEW = 16  # layers that are shown, also those without parameters
_MOST = 40
_WITHOUT_PARAMETERS = {
    *("Activation", "Add", "Attention", "Concatenate", "Dropout", "Flatten", "Lambda", "Permute"),
    *("Reshape", "SlicingOpLambda", "TFOpLambda", "Multiply", "Softmax", "ReLU", "Masking"),
}
_SETTINGS = ("units", "filters", "rate", "activation", "kernel_size", "strides", "pool_size")
_GENERIC_NAME = re.compile(r"(sequential|model|functional)(_\d+)?")
_WEIGHT = re.compile(r"\S+ \[([\d, ]*)\]( not trainable)?")


def num_parameters(run: RecordedRun) -> int | None:
    """Returns the number of parameters of the model, or None if unknown."""
    sizes = [size for size, _ in _weights(run)]
    return sum(sizes) if sizes else None


def num_frozen(run: RecordedRun) -> int:
    """Returns the number of parameters in layers that do not train."""
    return sum(size for size, frozen in _weights(run) if frozen)


def name(run: RecordedRun) -> str | None:
    """Returns the name of the model, unless it is Keras's default."""
    given = run.config.get("model_name")
    return None if not given or _GENERIC_NAME.fullmatch(given) else given


def layers(run: RecordedRun) -> tuple[list[dict[str, Any]], int]:
    """Returns the layers of the diagram, in order, and how many more there are.

    Returns:
      A list of dicts: title (the class), name, output, parameters (None if unknown),
      frozen, share (of all parameters, 0 to 1), settings, inputs (names of the layers
      that it reads, if that is not just the one before).
    """
    table = run.config.get("layer_table") or []
    described = _described(run)
    found = _joined(table, described)
    if not found:
        return [], 0
    hidden = set()
    if len(found) > _FEW:
        hidden = {i for i, row in enumerate(found) if _is_minor(row)}
    shown = [row for i, row in enumerate(found) if i not in hidden][:_MOST]
    total = sum(row["parameters"] or 0 for row in found) or math.inf
    connections = _connections(described, {row["name"] for row in shown})
    before: str | None = None
    for row in shown:
        inputs = connections.get(row["name"], [])
        row["inputs"] = [] if inputs in ([], [before]) else inputs
        row["share"] = (row["parameters"] or 0) / total
        before = row["name"]
    return shown, len(found) - len(shown)


def _described(run: RecordedRun) -> list[Mapping[str, Any]]:
    """Returns the layers in config.json, which may be damaged."""
    found = run.config.get("layers")
    if not isinstance(found, list):
        return []
    return [
        each
        for each in found
        if isinstance(each, dict) and isinstance(each.get("name"), str) and "class" in each
    ]


def _joined(
    table: Sequence[Mapping[str, Any]], described: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the layers with what both lists say of them. Either may be empty."""
    layers = [each for each in described if each.get("trainable") is not None]
    if table and [row["class"] for row in table] != [each["class"] for each in layers]:
        layers = [{"name": row["name"], "class": row["class"]} for row in table]
    return [_row(each, table[i] if table else None) for i, each in enumerate(layers)]


def _row(layer: Mapping[str, Any], row: Mapping[str, Any] | None) -> dict[str, Any]:
    kind = str(layer["class"])
    frozen = layer.get("trainable") is False
    if row is not None:
        frozen = row["parameters"] > 0 and row["trainable_parameters"] == 0
    return {
        "title": kind,
        "name": str(layer["name"]),
        "output": [] if row is None else [_shape(each) for each in row["output"]],
        "parameters": None if row is None else row["parameters"],
        "frozen": frozen,
        "input": kind == "InputLayer",
        "settings": [
            f"{key.replace('_', ' ')} {layer[key]}"
            for key in _SETTINGS
            if isinstance(layer.get(key), (int, float, str, list)) and layer[key] != "linear"
        ],
    }


def _is_minor(row: Mapping[str, Any]) -> bool:
    if row["parameters"] is None:  # unknown
        return row["title"] in _WITHOUT_PARAMETERS
    return row["parameters"] == 0 and not row["input"]


def _shape(text: str) -> str:
    """Returns a shape without the batch's dimension: "(None, None, 256)" is "* × 256"."""
    sizes = [each.strip() for each in text.strip("()").split(",") if each.strip()][1:]
    return " × ".join("*" if size == "None" else size for size in sizes) or "scalar"


def _connections(described: Sequence[Mapping[str, Any]], shown: set[str]) -> dict[str, list[str]]:
    """Returns name -> the shown layers that a layer reads, directly or through hidden ones."""
    names = {each["name"] for each in described}
    parents = {
        each["name"]: [n for n in _texts(each.get("inbound_nodes")) if n in names]
        for each in described
    }
    sources: dict[str, list[str]] = {}

    def source(layer: str) -> list[str]:
        if layer not in sources:
            sources[layer] = []  # ends cycles, which only a damaged file has
            sources[layer] = [layer] if layer in shown else inputs(layer)
        return sources[layer]

    def inputs(layer: str) -> list[str]:
        return list(dict.fromkeys(n for parent in parents[layer] for n in source(parent)))

    # In order, so that the recursion is shallow.
    for layer in parents:
        source(layer)
    return {layer: inputs(layer) for layer in parents if layer in shown}


def _texts(value: Any) -> list[str]:
    """Returns the texts in nested lists and dicts."""
    found, rest = [], [value]
    while rest:
        each = rest.pop(0)
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict):
            rest = [*each.values(), *rest]
        elif isinstance(each, list):
            rest = [*each, *rest]
    return found


def _weights(run: RecordedRun) -> list[tuple[int, bool]]:
    """Returns the size of each weight, and whether it does not train."""
    found = run.config.get("weights")
    matches = [_WEIGHT.fullmatch(str(each)) for each in found] if isinstance(found, list) else []
    return [
        (math.prod(int(size) for size in match[1].split(",") if size.strip()), bool(match[2]))
        for match in matches
        if match and len(match[1]) < 100  # else it is damaged
    ]
