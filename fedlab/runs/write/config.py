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
from fedlab.runs.format import FOR_PEOPLE, FORMAT_VERSION, LAYERS, read_config

# Entries that may differ when a run is resumed. With other versions or another commit the
# bits may differ. For the initial weights see `InitialState.resume`.
_NOT_COMPARED = {"versions", "commit", "rounds", "stopped", "initial_weights", *FOR_PEOPLE}

_MOST_NAMED = 6  # differing settings in an error
# What kind of thing a dict of `fedlab._fingerprint` or of Keras describes. Things of two
# kinds have settings that only one of them has, which are not compared.
_KINDS = ("class", "function", "name")
_SETTINGS_OF = {"algorithm": "algorithm_settings", "aggregator": "aggregator_settings"}
_HASH = re.compile("[0-9a-f]{64}")


def resolve(setting: Any, more: Mapping[str, Any], with_data: bool = True) -> dict[str, Any]:
    """Returns the settings of a run as JSON values.

    Args:
      setting: an engine's `Setting`.
      more: name -> other settings that decide what the run computes.
      with_data: whether to include hashes of the data and of the initial weights, for
        which all of it is read.
    """
    import tensorflow as tf

    from fedlab.learner import identity, stack
    from fedlab.learner.layer_table import layer_table

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
        **identity(setting.model),
        "model_name": str(setting.model.name),
        "layer_table": layer_table(setting.model),
        "num_clients": len(setting.clients),
        **(_hashes(setting) if with_data else {}),
        "versions": {
            "fedlab": __version__,
            "tensorflow": tf.__version__,
            "keras": importlib.metadata.version("keras"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return json.loads(json.dumps(config))


def _hashes(setting: Any) -> dict[str, str]:
    weights = hashlib.sha256()
    for variable in setting.model.weights:
        if hasattr(variable, "assign"):  # lookup tables cannot be assigned
            weights.update(variable.numpy().tobytes())
    return {
        "initial_weights": weights.hexdigest(),
        "client_ids": ids_lib.digest(setting.clients.client_ids),
        "training_data": setting.clients.fingerprint(),
    }


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
        named = [_named(*each) for each in found[:_MOST_NAMED]]
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


def for_people(path: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries that only describe the run and that the folder lacks."""
    before = read_config(path)
    return {name: config[name] for name in FOR_PEOPLE if name in config and name not in before}


def _write(path: pathlib.Path, config: Mapping[str, Any]) -> None:
    write(path / "config.json", json.dumps(config, indent=1).encode())


def differences(config: Mapping[str, Any], before: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (path, value, value before) of each setting that differs.

    If the kinds of layers differ, the settings of the layers are left out. If there is
    another algorithm, optimizer or the like, the settings that only one of them has are.

    Example:
      >>> before = {"seed": 1, "layers": [{"rate": 0.1}]}
      >>> differences({"seed": 1, "layers": [{"rate": 0.5}]}, before)
      [('layers[0].rate', 0.5, 0.1)]
    """
    left_out = {*_NOT_COMPARED, *(LAYERS if config.get("model") != before.get("model") else ())}
    names = [name for name in dict.fromkeys([*config, *before]) if name not in left_out]
    other = {of for name, of in _SETTINGS_OF.items() if config.get(name) != before.get(name)}
    found: list[tuple[str, Any, Any]] = []
    for name in names:
        found += _differences(name, config.get(name), before.get(name), name in other)
    return found


def _differences(
    path: str, value: Any, before: Any, other: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    """Yields what `differences` returns. `other`: the dicts are of two kinds of things."""
    if isinstance(value, dict) and isinstance(before, dict):
        other = other or any(value.get(kind) != before.get(kind) for kind in _KINDS)
        for name in dict.fromkeys([*value, *before]):
            if not other or (name in value and name in before) or name in _KINDS:
                yield from _differences(f"{path}.{name}", value.get(name), before.get(name))
    elif isinstance(value, list) and isinstance(before, list) and value and before:
        for i, (each, earlier) in enumerate(itertools.zip_longest(value, before)):
            yield from _differences(f"{path}[{i}]", each, earlier)
    # As text, because NaN differs from itself.
    elif json.dumps(value, sort_keys=True) != json.dumps(before, sort_keys=True):
        yield path, value, before


def _named(path: str, value: Any, before: Any) -> str:
    """A difference in words."""
    if path.endswith(".code") and None not in (value, before):
        return f"the code of {path.removesuffix('.code')} has changed"
    return f"{path} is {_shown(value)}, was {_shown(before)}"


def _shown(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _text(value: Any) -> str:
    """A setting as text.

    Example:
      >>> _text({"name": "cosine", "rate": 0.30000001192092896})
      'cosine(rate=0.3)'
    """
    if isinstance(value, str) and _HASH.fullmatch(value):
        return repr(value[:8])
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            single = np.float32(value)
        if single == value:  # Keras keeps hyperparameters in float32
            return min(repr(value), str(single), key=len)
    if isinstance(value, dict):
        kind = next((kind for kind in _KINDS if kind in value), None)
        if kind == "function":
            return f"the function {value[kind]}"
        settings = (f"{k}={_text(v)}" for k, v in value.items() if k not in (kind, "code"))
        return f"{value[kind] if kind else ''}({', '.join(settings)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return repr(value)


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
