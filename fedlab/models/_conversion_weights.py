"""The layout of weights and other files in the archives of Keras 2 and Keras 3.

An archive has one HDF5 group per layer, with its weights `vars/0`, `vars/1` and so on.
The groups of a model's layers are numbered by class, in the order of the layers.

    Keras 2    _layer_checkpoint_dependencies/dense_1/vars/0
    Keras 3    layers/dense_1/vars/0
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fedlab.models import _conversion_graph as graphs
from fedlab.models import _conversion_tables as tables

_CONTAINER = {2: "_layer_checkpoint_dependencies", 3: "layers"}
_CHILDREN = ("layer", "cell")

Key = tuple[str, ...]


def groups(item: Mapping[str, Any], version: int) -> dict[Key, str]:
    """Returns the group of each layer of a model, and of the parts of layers.

    Args:
      item: the configuration of the model.
      version: the version of Keras that wrote it, 2 or 3.

    Returns:
      A key that is the same for both versions -> the path of the group. The model itself
      has the key () and the path "".

    Example:
      >>> dense = {"class_name": "Dense", "config": {"name": "out", "units": 2}}
      >>> groups({"class_name": "Sequential", "config": {"layers": [dense]}}, 3)
      {(): '', ('out',): 'layers/dense'}
    """
    return dict(_groups(item, version, (), ""))


def _groups(item, version, key, path) -> Iterator[tuple[Key, str]]:
    yield key, path
    class_name, config = item["class_name"], item.get("config") or {}
    if class_name in ("Sequential", "Functional", "Model"):
        layers = config["layers"] if isinstance(config, dict) else config
        layers = [layer for layer in layers if not graphs.is_operation(layer)]
        for layer, name in _numbered(layers):
            label = layer["config"].get("name", layer.get("name")) or name
            yield from _groups(
                layer, version, (*key, label), _join(path, _CONTAINER[version], name)
            )
    elif class_name == "Bidirectional":
        for name in ("forward_layer", "backward_layer"):
            yield from _groups(config["layer"], version, (*key, name), _join(path, name))
    elif class_name == "StackedRNNCells":
        for position, (cell, name) in enumerate(_numbered(config["cells"])):
            yield from _groups(cell, version, (*key, str(position)), _join(path, "cells", name))
    elif class_name in tables.PARTS:
        for names in tables.PARTS[class_name]:
            yield (*key, names[1]), _join(path, names[version - 2])
    elif class_name in ("SimpleRNN", "LSTM", "GRU"):
        yield (*key, "cell"), _join(path, "cell")
    else:
        for name in _CHILDREN:
            if isinstance(child := config.get(name), dict):
                yield from _groups(child, version, (*key, name), _join(path, name))


def _numbered(layers):
    count: dict[str, int] = {}
    for layer in layers:
        name = _snake_case(layer["class_name"])
        number = count[name] = count.get(name, -1) + 1
        yield layer, f"{name}_{number}" if number else name


def _snake_case(name):
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _join(*parts):
    return "/".join(filter(None, parts))


def copy_arrays(source: Any, target: Any, paths: Mapping[str, str]) -> None:
    """Copies the weights of a model into an empty file of the other version.

    Args:
      source, target: open `h5py.File`.
      paths: the path of each group in the source -> its path in the target.

    Raises:
      ValueError: the source has weights elsewhere.
    """
    import h5py

    done = {"optimizer", "metrics", "loss"}
    for old, new in paths.items():
        group = target.require_group(_join(new, "vars"))
        stored = source.get(_join(old, "vars"))
        if not isinstance(stored, h5py.Group):
            continue
        group.attrs.update({"name": _text(stored.attrs.get("name"), new)})
        for name in stored:
            if isinstance(stored[name], h5py.Dataset):
                group.create_dataset(name, data=stored[name][()])
                done.add(_join(old, "vars", name))
    left: list[str] = []

    def visit(name, part):
        if isinstance(part, h5py.Dataset) and name not in done:
            if name.partition("/")[0] not in ("optimizer", "metrics", "loss"):
                left.append(name)

    source.visititems(visit)
    if left:
        raise ValueError(f"weight {left[0]!r:.100}: expected weights of the layers only")


# Optimizers that keep the same variables in the same order in both versions, after the
# step count and, in Keras 3, the learning rate.
_SAME_STATE = frozenset("Adadelta Adagrad Adam AdamW Adamax Ftrl Lion Nadam RMSprop SGD".split())


def copy_optimizer_state(
    source: Any, target: Any, optimizer: Mapping[str, Any], to: int
) -> str | None:
    """Copies the step count, momenta and the like of an optimizer.

    An optimizer that has not made a step has no such state.

    Args:
      source, target: open `h5py.File`.
      optimizer: its translated configuration.
      to: the version of Keras that will read the target, 2 or 3.

    Returns:
      Why the state was not copied, or None.
    """
    stored = source.get("optimizer/vars")
    name, config = optimizer["class_name"], optimizer["config"]
    has_schedule = isinstance(config.get("learning_rate"), dict)
    first = {2: 1, 3: 1 if has_schedule else 2}  # position of the first momentum
    if stored is None or "0" not in stored or not stored["0"][()]:
        return None
    if name not in _SAME_STATE:
        return f"the two versions keep the state of {name} differently"
    values = [stored[str(i)][()] for i in range(len(stored))]
    steps, momenta = values[0], values[first[5 - to] :]
    if name == "SGD" and not config.get("momentum"):
        momenta = []  # Keras 2 has momenta of zeros, Keras 3 none
        if to == 2:
            return "Keras 3 keeps no momenta of this SGD" if has_schedule else None
    rate = [] if has_schedule or to == 2 else [np.float32(config.get("learning_rate", 0.001))]
    group = target.require_group("optimizer/vars")
    for i, value in enumerate([np.int64(steps), *rate, *momenta]):
        group.create_dataset(str(i), data=value)
    return None


def _text(name, path):
    return name if isinstance(name, str) else path.rpartition("/")[2] or "model"
