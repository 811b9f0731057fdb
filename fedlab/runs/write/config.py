"""What a run folder says of its run: every resolved setting, and for the record the versions and the commit.

The settings are the run's identity: the model with its layers, loss, metrics and optimizer, the data, the evaluation sets, and the
arguments of `simulate` that decide the result. Only a run of the same settings continues it.
"""

import contextlib
import hashlib
import itertools
import json
import pathlib
import platform
import re
import subprocess
import sys

import numpy as np

from fedlab import __version__
from fedlab._fingerprint import plain
from fedlab.runs.format import FORMAT_VERSION, LAYERS, read_config

# They may differ. "rounds" is how many the last start asked for; with other versions or another commit the bits may differ too. The run
# continues from the weights that it started with, see `RunFolder.resume`.
_FOR_THE_RECORD = {"versions", "commit", "rounds", "stopped", "initial_weights"}

_MOST_NAMED = 3  # differing settings in an error
_HASH = re.compile("[0-9a-f]{64}")


def resolve(setting, more):
    """The settings of a run as JSON gives them back.

    Args:
      setting: an engine's `Setting`.
      more: name -> other settings that decide what the run computes.
    """
    import tensorflow as tf

    from fedlab.learner import identity

    model = setting.model
    weights = hashlib.sha256()
    for variable in (
        each for each in model.weights if hasattr(each, "assign")
    ):  # a table of words is none
        weights.update(variable.numpy().tobytes())
    config = {
        "format_version": FORMAT_VERSION,
        **plain(more),
        "conditions": plain(setting.conditions),
        "algorithm": setting.algorithm.name,
        "algorithm_settings": plain(setting.algorithm.settings),
        "aggregator": setting.aggregator.name,
        "aggregator_settings": plain(setting.aggregator.settings),
        "batching": setting.batching._asdict(),
        "seed": setting.seed,
        "non_trainable": setting.non_trainable,
        "precision": setting.precision,
        "client_learning_rate": plain(setting.client_learning_rate),
        **identity(model),
        "initial_weights": weights.hexdigest(),
        "num_clients": len(setting.clients),
        "client_ids": hashlib.sha256("\n".join(setting.clients.client_ids).encode()).hexdigest(),
        "training_data": setting.clients.fingerprint(),
        "versions": {
            "fedlab": __version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return json.loads(json.dumps(config))


def with_commit(config):
    """The settings and the commit of the program that runs, with "+" where its files differ from it; None where it is not in git."""
    return {**config, "commit": _commit()}


def check_same(path, config):
    """Checks that a run folder holds a run of these settings.

    Args:
      path: the folder.
      config: what `resolve` gives.

    Raises:
      ValueError: the folder is of another format version or has other settings, which are named, or its config.json is damaged.
    """
    before = read_config(path)
    found = differences(config, before)
    if found:
        named = [
            f"{name} is {_shown(value)}, was {_shown(earlier)}"
            for name, value, earlier in found[:_MOST_NAMED]
        ]
        more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise ValueError(
            f"{path} holds a run of other settings: {'; '.join(named)}{more}. Choose another run folder, or the same settings."
        )


def differences(config, before):
    """[(path, value, value before)] of the settings that differ, such as ("layers[2].rate", 0.5, 0.1).

    Where the models have other kinds of layers, only these are named.

    Example:
      >>> differences({"seed": 1, "layers": [{"rate": 0.5}]}, {"seed": 1, "layers": [{"rate": 0.1}]})
      [('layers[0].rate', 0.5, 0.1)]
    """
    left_out = {*_FOR_THE_RECORD, *(LAYERS if config.get("model") != before.get("model") else ())}
    names = [name for name in dict.fromkeys([*config, *before]) if name not in left_out]
    return [
        each for name in names for each in _differences(name, config.get(name), before.get(name))
    ]


def _differences(path, value, before):
    if isinstance(value, dict) and isinstance(before, dict):
        for name in dict.fromkeys([*value, *before]):
            yield from _differences(f"{path}.{name}", value.get(name), before.get(name))
    elif isinstance(value, list) and isinstance(before, list) and value and before:
        for i, (each, earlier) in enumerate(itertools.zip_longest(value, before)):
            yield from _differences(f"{path}[{i}]", each, earlier)
    elif json.dumps(value, sort_keys=True) != json.dumps(
        before, sort_keys=True
    ):  # NaN differs from itself, its text does not
        yield path, value, before


def _shown(value):
    if isinstance(value, str) and _HASH.fullmatch(value):
        value = value[:8]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _commit():
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = pathlib.Path(program).absolute().parent if program else pathlib.Path.cwd()

    def git(*arguments):
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        return git("rev-parse", "HEAD") + "+" * bool(
            git("status", "--porcelain", "--untracked-files=no")
        )
    return None
