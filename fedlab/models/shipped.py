"""The pretrained models that are part of the package. Each has three files in `pretrained/`.

<name>.json         {"builder": "char_rnn", "arguments": {...}}: the function that builds the
                    compiled model, and its arguments
<name>.safetensors  the weights in the model's order; keys "<position>:<name>", floats as
                    float16
<name>.md           the model card: training data, training, quality
"""

import inspect
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from fedlab import _modules
from fedlab._files import write
from fedlab.learner import saving

FOLDER = pathlib.Path(__file__).parent / "pretrained"


def names() -> tuple[str, ...]:
    """Returns the names of the shipped models, in alphabetical order.

    Example:
      >>> isinstance(names(), tuple)
      True
    """
    return tuple(
        sorted(
            file.stem
            for file in FOLDER.glob("*.json")
            if file.with_suffix(".safetensors").is_file()
        )
    )


def load_shipped(
    name: str, folder: str | pathlib.Path | None = None, **overrides: Any
) -> tf.keras.Model:
    """Returns the compiled model of this name with its pretrained weights.

    Args:
      name: the name of the files, without suffix.
      folder: the folder of the files; by default the package's `pretrained`.
      **overrides: arguments of the model's builder that replace the recorded ones, such as
        `stateful=True, batch_size=8`.

    Raises:
      ValueError: the builder does not have such an argument, the weights do not fit with it,
        or the files are damaged.
    """
    from safetensors.numpy import load_file

    folder = pathlib.Path(folder or FOLDER)
    with open(folder / f"{name}.json", encoding="utf-8") as file:
        recorded = json.load(file)
    builder = _modules.find("fedlab.models", recorded["builder"])
    allowed = list(inspect.signature(builder).parameters)
    if unknown := [argument for argument in overrides if argument not in allowed]:
        raise ValueError(
            f"model {name!r} has no argument {unknown[0]!r}: expected {', '.join(allowed)}"
        )
    model = builder(**{**recorded["arguments"], **overrides})
    try:
        stored = load_file(folder / f"{name}.safetensors")
    except Exception as error:  # the library has an exception of its own
        raise ValueError(
            f"the weights of model {name!r} are damaged ({error}): install the package again"
        ) from None
    set_weights(model, stored, name)
    return model


def set_weights(
    model: tf.keras.Model, stored: Mapping[str, np.ndarray], name: str = "model"
) -> None:
    """Sets a model's weights, matched by position and checked by name and shape.

    Args:
      model: a built Keras model.
      stored: key -> array, as `save_pretrained` writes them; in any order.
      name: what messages call the model.

    Raises:
      ValueError: the weights do not fit; the message names the first that differs. The
        model is then unchanged.
    """
    keys = sorted(stored)
    expected = _keys(model)
    if len(keys) != len(expected):
        raise ValueError(
            f"model {name!r} has {len(expected)} weights, its file has {len(keys)}: leave the "
            "arguments that change its layers as they are"
        )
    for key, wanted, variable in zip(keys, expected, model.weights, strict=True):
        if key != wanted or stored[key].shape != tuple(variable.shape):
            raise ValueError(
                f"model {name!r} expects weight {wanted} {tuple(variable.shape)}, its file has "
                f"{key} {stored[key].shape}: leave the arguments that change its layers as they are"
            )
    for key, variable in zip(keys, model.weights, strict=True):
        variable.assign(stored[key].astype(tf.as_dtype(variable.dtype).as_numpy_dtype))


def save_pretrained(
    model: tf.keras.Model,
    name: str,
    builder: str,
    arguments: Mapping[str, Any],
    folder: str | pathlib.Path | None = None,
) -> pathlib.Path:
    """Writes `<name>.safetensors` and `<name>.json` for `load_shipped`.

    The model card `<name>.md` has to be written by hand.

    Args:
      model: a built Keras model; compiled or not.
      name: a Python identifier, such as "dickens_char_rnn".
      builder: the name of a function and of its module in `fedlab.models`, such as
        "char_rnn".
      arguments: the builder's arguments; JSON values.
      folder: where to write; by default the package's `pretrained`.

    Returns:
      The path of the weights.

    Raises:
      ValueError: the builder's model has other weights, or a weight does not fit in
        float16.
    """
    from safetensors.numpy import save

    if not name.isidentifier():
        raise ValueError(f"name={name!r}: expected a Python identifier, such as 'dickens_char_rnn'")
    folder = pathlib.Path(folder or FOLDER)
    stored = {}
    for key, variable in zip(_keys(model), model.weights, strict=True):
        value = variable.numpy()
        if value.dtype.kind == "f":
            with np.errstate(over="ignore"):
                half = value.astype(np.float16)
            if not np.isfinite(half).all():
                raise ValueError(
                    f"weight {key} has values that are not finite in float16: expected at most "
                    f"{np.finfo(np.float16).max:.0f}, got {np.abs(value).max()}"
                )
            value = half
        stored[key] = np.ascontiguousarray(value)
    set_weights(_modules.find("fedlab.models", builder)(**arguments), stored, name)
    folder.mkdir(parents=True, exist_ok=True)
    description = (
        json.dumps({"builder": builder, "arguments": arguments}, indent=2, sort_keys=True) + "\n"
    )
    write(folder / f"{name}.safetensors", save(stored))
    write(folder / f"{name}.json", description.encode())
    return folder / f"{name}.safetensors"


def _keys(model):
    """Names of the weights, after their position, without the numbers of Keras's layer names."""
    plain = [
        "/".join(re.sub(r"_\d+$", "", part) for part in saving.weight_path(model, v).split("/"))
        for v in model.weights
    ]
    return [f"{position:04d}:{name}" for position, name in enumerate(plain)]
