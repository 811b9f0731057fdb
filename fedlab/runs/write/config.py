"""The settings of a run, in config.json.

The settings are the run's identity: the model with its layers, loss, metrics and
optimizer, the data, the evaluation sets, and the arguments of `simulate` that decide the
result. A run folder is resumed only with the same settings and on the same stack
(`fedlab.learner.stack`). The versions and the commit are recorded as well.
"""

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fedlab import __version__
from fedlab._files import write
from fedlab._fingerprint import plain
from fedlab.clients import client_ids as ids_lib
from fedlab.runs.format import FORMAT_VERSION, LAYERS, read_config

# Entries that may differ when a run is resumed. With other versions or another commit the
# bits may differ. For the initial weights see `InitialState.resume`.
_NOT_COMPARED = {"versions", "commit", "rounds", "stopped", "initial_weights"}

_MOST_NAMED = 3  # differing settings in an error
_HASH = re.compile("[0-9a-f]{64}")


def resolve(setting: Any, more: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run as JSON values.

    Args:
      setting: an engine's `Setting`.
      more: name -> other settings that decide what the run computes.
    """
    import tensorflow as tf

    from fedlab.learner import identity, stack

    model = setting.model
    weights = hashlib.sha256()
    for variable in model.weights:
        if hasattr(variable, "assign"):  # lookup tables cannot be assigned
            weights.update(variable.numpy().tobytes())
    config = {
        "format_version": FORMAT_VERSION,
        "stack": stack.name(),
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
        "client_ids": ids_lib.digest(setting.clients.client_ids),
        "training_data": setting.clients.fingerprint(),
        "versions": {
            "fedlab": __version__,
            "tensorflow": tf.__version__,
            "keras": importlib.metadata.version("keras"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return json.loads(json.dumps(config))


def check_or_write(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes config.json, or checks that the folder holds a run of these settings.

    Args:
      path: the run folder.
      config: what `resolve` returned.

    Raises:
      ValueError: the folder has another format version, another stack or other settings,
        which are named, or its config.json is damaged.
    """
    if not (path / "config.json").exists():
        _write(path, {**config, "commit": _commit()})
        return
    before = read_config(path)
    _check_stack(path, config, before)
    found = differences(config, before)
    if found:
        named = [
            f"{name} is {_shown(value)}, was {_shown(earlier)}"
            for name, value, earlier in found[:_MOST_NAMED]
        ]
        more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise ValueError(
            f"{path} holds a run of other settings: {'; '.join(named)}{more}; "
            "choose another run folder or the same settings"
        )


def _check_stack(path: pathlib.Path, config: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    if config["stack"] == before["stack"]:
        return
    ran_with, runs_with = (
        f"{each['stack']!s:.40} stack, TensorFlow {_tensorflow(each):.40}"
        for each in (before, config)
    )
    raise ValueError(
        f"{path} holds a run of another stack ({ran_with}): expected this one ({runs_with}), "
        "because the stacks round numbers differently; resume it with the stack that started it "
        f"(in fedlab's repository: --stack={before['stack']!s:.40}) or choose another run folder"
    )


def _tensorflow(config: Mapping[str, Any]) -> str:
    versions = config.get("versions")
    return str(versions.get("tensorflow")) if isinstance(versions, dict) else "of unknown version"


def update(path: pathlib.Path, **settings: Any) -> None:
    """Changes entries of config.json."""
    before = read_config(path)
    after = {**before, **settings}
    if after != before:
        _write(path, after)


def _write(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    write(path / "config.json", json.dumps(config, indent=1).encode())


def differences(config: Mapping[str, Any], before: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (path, value, value before) of each setting that differs.

    If the kinds of layers differ, the settings of the layers are left out.

    Example:
      >>> before = {"seed": 1, "layers": [{"rate": 0.1}]}
      >>> differences({"seed": 1, "layers": [{"rate": 0.5}]}, before)
      [('layers[0].rate', 0.5, 0.1)]
    """
    left_out = {*_NOT_COMPARED, *(LAYERS if config.get("model") != before.get("model") else ())}
    names = [name for name in dict.fromkeys([*config, *before]) if name not in left_out]
    return [
        each for name in names for each in _differences(name, config.get(name), before.get(name))
    ]


def _differences(path: str, value: Any, before: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, dict) and isinstance(before, dict):
        for name in dict.fromkeys([*value, *before]):
            yield from _differences(f"{path}.{name}", value.get(name), before.get(name))
    elif isinstance(value, list) and isinstance(before, list) and value and before:
        for i, (each, earlier) in enumerate(itertools.zip_longest(value, before)):
            yield from _differences(f"{path}[{i}]", each, earlier)
    # As text, because NaN differs from itself.
    elif json.dumps(value, sort_keys=True) != json.dumps(before, sort_keys=True):
        yield path, value, before


def _shown(value: Any) -> str:
    if isinstance(value, str) and _HASH.fullmatch(value):
        value = value[:8]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _commit() -> str | None:
    """Returns the commit of the running program, or None outside git.

    A "+" at the end says that files differ from the commit.
    """
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = pathlib.Path(program).absolute().parent if program else pathlib.Path.cwd()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        return git("rev-parse", "HEAD") + "+" * bool(
            git("status", "--porcelain", "--untracked-files=no")
        )
    return None
