"""What a run folder says of its run: every resolved setting, and for the record the versions and the commit."""

import contextlib
import functools
import hashlib
import json
import pathlib
import platform
import subprocess
import sys

import numpy as np

from fedlab import __version__, _json

FORMAT_VERSION = 1
"""Of the run folder: of what lies where in it, and how it is read."""

# They may differ. "rounds" is how many the last start asked for; with other versions or another commit the bits may differ too.
_FOR_THE_RECORD = {"versions", "commit", "rounds"}


def resolve(setting, more):
    """The settings of a run as JSON gives them back.

    Args:
      setting: an engine's `Setting`.
      more: name -> other settings that decide what the run computes.
    """
    import tensorflow as tf

    model = setting.model
    weights = hashlib.sha256()
    for variable in model.weights:
        weights.update(variable.numpy().tobytes())
    config = {
        "format_version": FORMAT_VERSION,
        **_plain(more),
        "conditions": _plain(setting.conditions),
        "algorithm": setting.algorithm.name,
        "algorithm_settings": _plain(setting.algorithm.settings),
        "aggregator": setting.aggregator.name,
        "aggregator_settings": _plain(setting.aggregator.settings),
        "batching": setting.batching._asdict(),
        "seed": setting.seed,
        "non_trainable": setting.non_trainable,
        "precision": setting.precision,
        "optimizer": _plain(model.optimizer.get_config()),
        "client_learning_rate": _plain(setting.client_learning_rate),
        # Not the model's name: Keras numbers models as they are made.
        "model": [type(layer).__name__ for layer in model.layers],
        "initial_weights": weights.hexdigest(),
        "num_clients": len(setting.clients),
        "client_ids": hashlib.sha256("\n".join(setting.clients.client_ids).encode()).hexdigest(),
        "versions": {"fedlab": __version__, "tensorflow": tf.__version__, "numpy": np.__version__, "python": platform.python_version()},
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
    before = read(path)
    names = sorted(name for name in {*config, *before} - _FOR_THE_RECORD if config.get(name) != before.get(name))
    if names:
        differing = "; ".join(f"{name} is {config.get(name)!r}, was {before.get(name)!r}" for name in names)
        raise ValueError(f"{path} holds a run of other settings: {differing}. Choose another run folder, or the same settings.")


def read(path):
    """What the config.json of a run folder holds.

    Raises:
      ValueError: the folder is of another format version, or its config.json is damaged.
    """
    try:
        config = dict(_json.read(path / "config.json"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path / 'config.json'} is damaged ({error}): put a good copy back, or start a new run folder.") from error
    if config.get("format_version") != FORMAT_VERSION:
        versions = config.get("versions")
        wrote = versions.get("fedlab") if isinstance(versions, dict) else None
        raise ValueError(
            f"{path} is a run folder of format version {config.get('format_version')}, written by fedlab {wrote}; this fedlab, "
            f"{__version__}, reads version {FORMAT_VERSION}: go on with that one, or start a new run folder."
        )
    return config


def _commit():
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = pathlib.Path(program).absolute().parent if program else pathlib.Path.cwd()

    def git(*arguments):
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "--untracked-files=no"))
    return None


def _plain(value):
    """A setting as JSON can hold it: functions by name, what is made of settings by its name and them, long lists by their hash."""
    if hasattr(value, "name") and hasattr(value, "settings"):
        return {"name": value.name, **_plain(value.settings)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (dict, list, tuple)) and len(value) > 1000:
        return hashlib.sha256(repr(value).encode()).hexdigest()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, functools.partial):
        return {"name": value.func.__name__.lstrip("_"), **_plain(value.keywords)}
    if isinstance(value, (np.floating, np.integer)):
        return value.item()
    return getattr(value, "__qualname__", str(value)) if callable(value) else value
