"""A probe: the global model's outputs for a few fixed examples after every round.

They are stored in one file of numbers and texts (.npz, no pickle), which is replaced
atomically after every round:

```
rounds            int64   [r]              the rounds, from 0, the model before training
outputs           float32 [r, n, ...]      the model's outputs for the n examples
losses            float32 [r, n]           each example's compiled loss, as in `model.evaluate`
weights/<name>    float32 [r, ...]         the weights of the chosen layers
columns/<name>            [n, ...]         the examples
labels, titles    str     [n, ...], [n]    names of the output positions and of the examples;
                                           empty if not given
```

`fedlab.tasks.question_answering.probe_plot` draws it.
"""

import collections.abc
import fnmatch
import hashlib
import io
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlab import _checks, _files
from fedlab.clients import seeding
from fedlab.tasks.question_answering.windows import Windows

logger = logging.getLogger("fedlab")

FILE = "probe.npz"  # its name in a run folder
_FORMAT = "fedlab probe 1"


class Record(NamedTuple):
    """The recorded arrays of a probe; see the module."""

    rounds: Any
    outputs: Any
    losses: Any
    weights: dict
    columns: dict
    labels: Any
    titles: Any


class Probe:
    """A function for `evaluate_on` of `fedlab.simulate` that records a few fixed examples.

    It returns the examples' mean loss for the round's metrics and stores the rest in a
    file. When an interrupted run is resumed, repeated rounds are overwritten, so the file
    ends with the same bytes.

    Args:
      columns: the examples, name -> [n, ...]: `x`, or the inputs by name, `y`, and
        `sample_weight` if there is padding.
      path: the file, such as "runs/first/probe.npz". It is written before the first round
        and after each round.
      layers: names of layers whose weights are recorded, or patterns like those for file
        names, such as "layer_0_*". By default the last layer with weights.
      labels: names of the positions on the output's last axis, such as tokens or classes:
        n lists of str of equal length.
      titles: names of the examples: n str.
      every_round: False to record only after the rounds of `evaluate_every`, for runs with
        thousands of rounds.

    Attributes:
      name, settings: what a run's config.json says about the probe.
      every_round: as above.

    Raises:
      ValueError: there is no column `y`, columns have different lengths, or labels or
        titles are for another number of examples. When called: the model has several
        outputs, has no such layers, or the file has other examples.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.squad.synthetic_windows(num_clients=2)
      >>> sizes = dict(hidden_size=8, intermediate_size=16, num_layers=1, length=48)
      >>> model = fl.models.bert.question_answering(vocab_size=58, **sizes)
      >>> probe = of_windows(test, "runs/first/probe.npz", num_examples=2)
      >>> clients = fl.datasets.squad.clients(train)
      >>> run = fl.simulate(  # doctest: +SKIP
      ...     model, clients, rounds=1, clients_per_round=1, run_dir="runs/first",
      ...     evaluate_on={"probe": probe}, progress=False)
      >>> read("runs/first/probe.npz").outputs.shape  # doctest: +SKIP
      (2, 2, 2, 48)
    """

    name = "probe"

    def __init__(self, columns, path, *, layers=None, labels=None, titles=None, every_round=True):
        self.path, self.every_round = pathlib.Path(path), bool(every_round)
        if not isinstance(columns, collections.abc.Mapping):
            raise _checks.type_error("columns", columns, "a dict, name -> array [n, ...]")
        self._columns = {name: np.asarray(column) for name, column in columns.items()}
        lengths = {
            name: len(column) if column.ndim else 0 for name, column in self._columns.items()
        }
        if (
            "y" not in lengths
            or len(lengths) < 2
            or len(set(lengths.values())) > 1
            or not lengths["y"]
        ):
            raise ValueError(
                f"columns with numbers of examples {lengths}: expected y and the model's inputs, "
                "with the same number of examples, 1 or more"
            )
        self._layers = (
            None if layers is None else [layers] if isinstance(layers, str) else list(layers)
        )
        self._labels, self._titles = (
            np.array([] if texts is None else texts, dtype=np.str_) for texts in (labels, titles)
        )
        for name, texts in (("labels", self._labels), ("titles", self._titles)):
            if texts.size and len(texts) != lengths["y"]:
                raise ValueError(
                    f"{name} of {len(texts)} examples: expected {lengths['y']}, or none"
                )
        digest = hashlib.sha256()
        for name, column in self._columns.items():
            digest.update(
                f"{name} {column.dtype.str} {column.shape}".encode()
                + np.ascontiguousarray(column).tobytes()
            )
        self.settings = {
            "examples": lengths["y"],
            "columns": digest.hexdigest(),
            "layers": self._layers,
            "every_round": self.every_round,
        }

    def __call__(self, model, round_num):
        """Records the model and returns {"loss": mean loss of the examples}."""
        inputs = {
            name: column
            for name, column in self._columns.items()
            if name not in ("y", "sample_weight")
        }
        outputs = model.predict_on_batch(inputs["x"] if list(inputs) == ["x"] else inputs)
        if not isinstance(outputs, np.ndarray):
            raise ValueError(f"model {model.name!r}: expected one output, got {len(outputs)}")
        seen = {"outputs": outputs.astype(np.float32), "losses": self._losses(model, outputs)}
        seen |= {
            f"weights/{name}": np.asarray(value)
            for name, value in _weights(model, self._layers).items()
        }
        kept = self._before(round_num)
        if kept and {name: array.shape[1:] for name, array in kept.items() if name != "rounds"} != {
            n: a.shape for n, a in seen.items()
        }:
            raise ValueError(
                f"{self.path}: expected the same model and layers; pass another path, or delete "
                "the file"
            )
        rounds = np.append(kept.get("rounds", np.zeros([0], np.int64)), np.int64(round_num))
        arrays = {
            name: np.concatenate([kept[name], array[None]]) if kept else array[None]
            for name, array in seen.items()
        }
        self._write({"rounds": rounds, **arrays})
        return {"loss": float(seen["losses"].mean())}

    def _losses(self, model, outputs):
        """Returns the loss of each single example for these outputs, float32 [n]."""
        import tensorflow as tf  # Keras's losses take no arrays

        losses = []
        for i in range(len(outputs)):
            y, weight = (
                tf.convert_to_tensor(self._columns[name][i : i + 1])
                if name in self._columns
                else None
                for name in ("y", "sample_weight")
            )
            loss = model.compute_loss(
                y=y, y_pred=tf.convert_to_tensor(outputs[i : i + 1]), sample_weight=weight
            )
            losses.append(np.float32(loss))
        model.reset_metrics()
        return np.stack(losses)

    def _before(self, round_num):
        """Returns the arrays of the earlier rounds, [r, ...]; none in round 0 or without a file."""
        if round_num == 0:
            return {}
        if not self.path.exists():
            logger.warning(
                "%s does not exist, so that it begins with round %d", self.path, round_num
            )
            return {}
        arrays = _read(self.path)
        for name, column in self._columns.items():
            if not np.array_equal(arrays.get(f"columns/{name}"), column):
                raise ValueError(
                    f"{self.path}: expected the examples that the run began with; pass them or "
                    "another path, or delete the file"
                )
        keep = arrays["rounds"] < round_num
        kept = {
            name: array[keep]
            for name, array in arrays.items()
            if name in ("rounds", "outputs", "losses") or name.startswith("weights/")
        }
        return kept if keep.any() else {}

    def _write(self, arrays):
        columns = {f"columns/{name}": column for name, column in self._columns.items()}
        packed = io.BytesIO()
        np.savez(
            packed,
            format=np.array(_FORMAT),
            **arrays,
            **columns,
            labels=self._labels,
            titles=self._titles,
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _files.write(self.path, packed.getbuffer())


def of_windows(
    windows: Windows,
    path: str | os.PathLike,
    *,
    num_examples: int = 4,
    seed: int = 0,
    layers: str | Sequence[str] | None = None,
    every_round: bool = True,
) -> Probe:
    """Returns a `Probe` of randomly drawn windows that contain their answer, one per question.

    Args:
      windows: the windows to draw from.
      path, layers, every_round: as in `Probe`.
      num_examples: number of examples, 1 or more; fewer if there are fewer questions.
      seed: seed of the draw.

    Raises:
      ValueError: no window contains its answer, or num_examples is out of range.
    """
    _checks.check_int("num_examples", num_examples)
    held = np.flatnonzero(windows.y.any(axis=1))
    held = held[np.unique(windows.question[held], return_index=True)[1]]
    if not len(held):
        raise ValueError(
            f"{windows.num_windows} windows: expected one that contains its answer, got none; "
            "pass others"
        )
    chosen = seeding.generator(seed, "probe").permutation(held)[:num_examples]
    columns = windows.columns(chosen)
    tokens = windows.vocabulary.tokens
    labels = [[tokens[token] for token in row] for row in columns["input_ids"]]
    titles = [windows.questions[windows.question[window]].question for window in chosen]
    return Probe(
        columns, path, layers=layers, labels=labels, titles=titles, every_round=every_round
    )


def read(path: str | os.PathLike) -> Record:
    """Reads what a probe has recorded.

    Args:
      path: the file, or the run folder with a file probe.npz.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or was not written by a probe.
    """
    path = pathlib.Path(path)
    arrays = _read(path / FILE if path.is_dir() else path)
    weights, columns = (
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("weights/", "columns/")
    )
    return Record(
        arrays["rounds"],
        arrays["outputs"],
        arrays["losses"],
        weights,
        columns,
        arrays["labels"],
        arrays["titles"],
    )


def _read(file):
    try:
        # From bytes, because NumPy would leave a damaged file open.
        with np.load(io.BytesIO(pathlib.Path(file).read_bytes()), allow_pickle=False) as arrays:
            found = dict(arrays)
        if found["format"] != _FORMAT:
            raise ValueError(f"it is of the form {str(found['format'])!r:.40}, not {_FORMAT!r}")
        _check_forms(found)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no probe at {str(file)!r}: expected the folder of a run that was simulated with one"
        ) from None
    except _files.DAMAGE as error:
        raise ValueError(
            f"{file}: expected a probe's file, which is not damaged ({error}); pass another, or "
            "delete it"
        ) from None
    return found


def _check_forms(arrays):
    """Raises ValueError or KeyError if the shapes differ from those in the module's docstring."""
    num_rounds, num_examples = len(arrays["rounds"]), len(arrays["columns/y"])
    forms = {name: array.shape[:1] for name, array in arrays.items() if name.startswith("weights/")}
    forms |= {name: arrays[name].shape[:2] for name in ("outputs", "losses")}
    wanted = {name: (num_rounds, num_examples)[: len(form)] for name, form in forms.items()}
    forms |= {
        name: array.shape[:1] for name, array in arrays.items() if name.startswith("columns/")
    }
    wanted |= {name: (num_examples,) for name in arrays if name.startswith("columns/")}
    if wrong := [
        name
        for name, form in forms.items()
        if form != wanted[name] or not (num_rounds and num_examples)
    ]:
        raise ValueError(
            f"{wrong[0]} has shape {list(arrays[wrong[0]].shape)}, with {num_rounds} rounds and "
            f"{num_examples} examples"
        )
    for name in ("labels", "titles"):
        if arrays[name].size and len(arrays[name]) != num_examples:
            raise ValueError(f"{name} are {len(arrays[name])}, with {num_examples} examples")


def _weights(model, patterns):
    """Returns "layer/weight" -> array for the layers that match the patterns."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if patterns is None:
        patterns = list(layers)[-1:]
    for pattern in patterns:
        if not fnmatch.filter(layers, pattern):
            raise ValueError(
                f"layer {pattern!r}: expected one of {', '.join(layers)}, which have weights, or a "
                "pattern such as 'layer_0_*'"
            )
    names = [
        name for name in layers if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    found = {}
    for name in names:
        for weight in layers[name].weights:
            # In a layer of layers, several weights may have the same name: they are numbered.
            plain = key = f"{name}/{weight.name.rpartition('/')[2].partition(':')[0]}"
            number = 1
            while key in found:
                number += 1
                key = f"{plain}_{number}"
            found[key] = weight.numpy()
    return found
