"""The pretrained models that ship with the package: `pretrained/<name>.json`, `.safetensors` and `.md`.

json         {"builder": "char_rnn", "arguments": {...}}: the function that makes the compiled model, and how it is called
safetensors  the weights in the model's order; keys "<position>:<name>", floats as float16
md           the model card: what it was trained on, how, how good it is
"""

import inspect
import json
import pathlib
import re

import numpy as np

from fedlab import _modules
from fedlab._files import write

FOLDER = pathlib.Path(__file__).parent / "pretrained"


def names():
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


def load_shipped(name, folder=None, **overrides):
    """Makes the compiled model of that name with its pretrained weights.

    Args:
      name: of the files in the folder.
      folder: by default the package's own.
      **overrides: arguments of the model's builder that take the place of the recorded ones, such as `stateful=True, batch_size=8`.

    Raises:
      ValueError: an argument that the builder does not take, or one with which the weights do not fit; or damaged files.
    """
    from safetensors.numpy import load_file

    folder = pathlib.Path(folder or FOLDER)
    with open(folder / f"{name}.json", encoding="utf-8") as file:
        recorded = json.load(file)
    builder = _modules.find("fedlab.models", recorded["builder"])
    allowed = list(inspect.signature(builder).parameters)
    if unknown := [argument for argument in overrides if argument not in allowed]:
        raise ValueError(
            f"model {name!r} has no argument {unknown[0]!r}; allowed: {', '.join(allowed)}."
        )
    model = builder(**{**recorded["arguments"], **overrides})
    try:
        stored = load_file(folder / f"{name}.safetensors")
    except Exception as error:  # the library has an exception of its own
        raise ValueError(
            f"the weights of model {name!r} are damaged ({error}): install the package again."
        ) from None
    set_weights(model, stored, name)
    return model


def set_weights(model, stored, name="model"):
    """Sets a model's weights, matched by position and checked by name and shape.

    Args:
      model: a built Keras model.
      stored: key -> array, as `save_pretrained` writes them; in any order.
      name: of the model, for messages.

    Raises:
      ValueError: the two do not fit, naming the first weight that differs. The model is then unchanged.
    """
    keys = sorted(stored)
    expected = _keys(model)
    if len(keys) != len(expected):
        raise ValueError(
            f"model {name!r} has {len(expected)} weights, its file has {len(keys)}: were its layers changed?"
        )
    for key, wanted, variable in zip(keys, expected, model.weights, strict=True):
        if key != wanted or stored[key].shape != tuple(variable.shape):
            raise ValueError(
                f"model {name!r} expects weight {wanted} {tuple(variable.shape)}, its file has {key} {stored[key].shape}: "
                "leave the arguments that change layers and sizes as they are."
            )
    for key, variable in zip(keys, model.weights, strict=True):
        variable.assign(stored[key].astype(variable.dtype.as_numpy_dtype))


def save_pretrained(model, name, builder, arguments, folder=None):
    """Writes `<name>.safetensors` and `<name>.json`, from which `load_shipped` makes the model again. The model card is yours to write.

    Args:
      model: a built Keras model; compiled or not.
      name: a Python identifier, such as "dickens_char_rnn".
      builder: the name of a function of the module of the same name in `fedlab.models`, such as "char_rnn".
      arguments: what it is called with, as JSON can hold it.
      folder: by default the package's own.

    Returns:
      The path of the weights.

    Raises:
      ValueError: the builder makes a model of other weights, or a weight does not fit in float16.
    """
    from safetensors.numpy import save

    if not name.isidentifier():
        raise ValueError(
            f"received name={name!r}; allowed is a Python identifier, such as 'dickens_char_rnn'."
        )
    folder = pathlib.Path(folder or FOLDER)
    stored = {}
    for key, variable in zip(_keys(model), model.weights, strict=True):
        value = variable.numpy()
        if value.dtype.kind == "f":
            with np.errstate(over="ignore"):
                half = value.astype(np.float16)
            if not np.isfinite(half).all():
                raise ValueError(
                    f"weight {key} has values that are not finite in float16 (largest {np.abs(value).max()})."
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
    """Names with their position in front and without the numbers by which Keras tells a process's layers apart."""
    plain = [
        "/".join(re.sub(r"_\d+$", "", part) for part in v.name.removesuffix(":0").split("/"))
        for v in model.weights
    ]
    return [f"{position:04d}:{name}" for position, name in enumerate(plain)]
