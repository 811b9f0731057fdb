"""A run as a folder: settings, metrics, checkpoints, the trained model. Files are written whole or not at all."""

import csv
import functools
import hashlib
import io
import json
import logging
import os
import pathlib

import numpy as np

from fedlab import __version__
from fedlab._files import write
from fedlab.engines.client_states import ClientStates

logger = logging.getLogger("fedlab")

_CHECKPOINTS_KEPT = 2


class RunFolder:
    """Where a run keeps what it does; without a path it keeps nothing.

    Attributes:
      path: the folder, or None.
      history, clients: rows of the rounds done so far.
      checkpoint: arrays of the last good checkpoint, or None.
      client_states: what clients keep from round to round; a checkpoint is of one moment with it.
    """

    def __init__(self, path):
        self.path = path
        self.client_states = ClientStates(path and path / "client_states.sqlite")
        self.history = []
        self.clients = []
        self.checkpoint = None

    @classmethod
    def open(cls, path, setting, more):
        """Opens a new folder, or continues one whose settings are the same.

        Raises:
          ValueError: where the folder holds a run of other settings; it names them.
        """
        if path is None:
            return cls(None)
        folder = cls(pathlib.Path(path))
        config = _config(setting, more)
        file = folder.path / "config.json"
        if file.exists():
            before = json.loads(file.read_text())
            # Versions are for the record: they may differ, and the bits then too.
            names = sorted(name for name in {*config, *before} - {"versions"} if config.get(name) != before.get(name))
            if names:
                differing = "; ".join(f"{name} is {config.get(name)!r}, was {before.get(name)!r}" for name in names)
                raise ValueError(f"{path} holds a run of other settings: {differing}. Choose another run folder, or the same settings.")
            folder._read_checkpoint()
        elif folder.path.exists() and any(folder.path.iterdir()):
            raise ValueError(f"{path} is not empty and holds no run: choose a new or empty folder.")
        else:
            folder.path.mkdir(parents=True, exist_ok=True)
            write(file, json.dumps(config, indent=1).encode())
        return folder

    def save(self, arrays, history, clients):
        """Writes a checkpoint (numbers and JSON only), then the tables.

        What clients keep is on disk before the checkpoint is: a kill between the two leaves versions that no checkpoint knows of.
        """
        num_states = self.client_states.commit()
        if self.path is None:
            return
        buffer = io.BytesIO()
        rows = json.dumps({"history": history, "clients": clients, "client_states": num_states}).encode()
        np.savez(buffer, rows=np.frombuffer(rows, np.uint8), **{f"array_{i:05}": array for i, array in enumerate(arrays)})
        data = buffer.getvalue()
        checkpoints = self.path / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        write(checkpoints / f"round_{history[-1]['round']:06}.npz", hashlib.sha256(data).digest() + data)
        for old in self._checkpoints()[:-_CHECKPOINTS_KEPT]:
            old.unlink()
        self.client_states.oldest_checkpoint = _round_of(self._checkpoints()[0])
        write(self.path / "metrics.csv", _csv(history))
        write(self.path / "clients.csv", _csv(clients))

    def finish(self, model):
        """Writes the trained model."""
        if self.path is None:
            return
        temporary = self.path / "model.tmp.keras"
        model.save(temporary)
        os.replace(temporary, self.path / "model.keras")

    def _checkpoints(self):
        return sorted((self.path / "checkpoints").glob("round_*.npz"))

    def _read_checkpoint(self):
        files = self._checkpoints()
        self.client_states.oldest_checkpoint = _round_of(files[0]) if files else None
        for file in reversed(files):
            data = file.read_bytes()
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                logger.warning("%s is damaged; the checkpoint before it is used.", file)
                continue
            with np.load(io.BytesIO(data[32:]), allow_pickle=False) as arrays:
                rows = json.loads(arrays["rows"].tobytes())
                self.checkpoint = [arrays[name] for name in sorted(arrays.files) if name != "rows"]
            self.history, self.clients = rows["history"], rows["clients"]
            self.client_states.rewind(self.history[-1]["round"], rows.get("client_states", 0))
            logger.info("continuing %s after round %d", self.path, self.history[-1]["round"])
            return
        self.client_states.rewind(0, 0)


def _round_of(checkpoint):
    return int(checkpoint.stem.removeprefix("round_"))


def _csv(rows):
    """Rows of differing keys as one table, columns in the order they first appear."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    table = csv.DictWriter(out, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue().encode()


def _config(setting, more):
    import tensorflow as tf

    model = setting.model
    weights = hashlib.sha256()
    for variable in model.weights:
        weights.update(variable.numpy().tobytes())
    return {
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
        "versions": {"fedlab": __version__, "tensorflow": tf.__version__, "numpy": np.__version__},
    }


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
