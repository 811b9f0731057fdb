"""A run as a folder: settings, metrics, checkpoints, the trained model. Files are written whole or not at all."""

import csv
import hashlib
import io
import json
import logging
import os
import pathlib

import numpy as np

from fedlab import __version__
from fedlab._files import write

logger = logging.getLogger("fedlab")

_CHECKPOINTS_KEPT = 2


class RunFolder:
    """Where a run keeps what it does; without a path it keeps nothing.

    Attributes:
      path: the folder, or None.
      history, clients: rows of the rounds done so far.
      checkpoint: arrays of the last good checkpoint, or None.
    """

    def __init__(self, path):
        self.path = path
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
        """Writes a checkpoint (numbers and JSON only), then the tables."""
        if self.path is None:
            return
        buffer = io.BytesIO()
        rows = json.dumps({"history": history, "clients": clients}).encode()
        np.savez(buffer, rows=np.frombuffer(rows, np.uint8), **{f"array_{i:05}": array for i, array in enumerate(arrays)})
        data = buffer.getvalue()
        checkpoints = self.path / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        write(checkpoints / f"round_{history[-1]['round']:06}.npz", hashlib.sha256(data).digest() + data)
        for old in sorted(checkpoints.glob("round_*.npz"))[:-_CHECKPOINTS_KEPT]:
            old.unlink()
        write(self.path / "metrics.csv", _csv(history))
        write(self.path / "clients.csv", _csv(clients))

    def finish(self, model):
        """Writes the trained model."""
        if self.path is None:
            return
        temporary = self.path / "model.tmp.keras"
        model.save(temporary)
        os.replace(temporary, self.path / "model.keras")

    def _read_checkpoint(self):
        for file in sorted((self.path / "checkpoints").glob("round_*.npz"), reverse=True):
            data = file.read_bytes()
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                logger.warning("%s is damaged; the checkpoint before it is used.", file)
                continue
            with np.load(io.BytesIO(data[32:]), allow_pickle=False) as arrays:
                rows = json.loads(arrays["rows"].tobytes())
                self.checkpoint = [arrays[name] for name in sorted(arrays.files) if name != "rows"]
            self.history, self.clients = rows["history"], rows["clients"]
            logger.info("continuing %s after round %d", self.path, self.history[-1]["round"])
            return


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
    cohort = more.pop("cohort")
    return {
        **more,
        "cohort": getattr(cohort, "__qualname__", "sampler") if callable(cohort) else cohort and list(cohort),
        "algorithm": setting.algorithm.name,
        "algorithm_settings": {name: _plain(value) for name, value in setting.algorithm.settings.items()},
        "aggregator": setting.aggregator.name,
        "batching": setting.batching._asdict(),
        "seed": setting.seed,
        "non_trainable": setting.non_trainable,
        "optimizer": _plain(model.optimizer.get_config()),
        "model": model.name,
        "initial_weights": weights.hexdigest(),
        "num_clients": len(setting.clients),
        "client_ids": hashlib.sha256("\n".join(setting.clients.client_ids).encode()).hexdigest(),
        "versions": {"fedlab": __version__, "tensorflow": tf.__version__, "numpy": np.__version__},
    }


def _plain(value):
    """A setting as JSON can hold it: functions by name."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (np.floating, np.integer)):
        return value.item()
    return getattr(value, "__qualname__", str(value)) if callable(value) else value
