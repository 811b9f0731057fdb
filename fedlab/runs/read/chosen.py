"""Which settings of a run differ from the defaults, and what its algorithm is called.

Defaults are read from the source code of fedlab, because importing the algorithms would
import Keras. An algorithm or an aggregator that is not fedlab's has no known defaults.
"""

import ast
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from fedlab.runs.read import run_settings

_FEDLAB = pathlib.Path(__file__).parents[2]

# Settings in config.json -> arguments of `simulate`.
_ARGUMENTS = {
    "engine": "engine",
    "callbacks": "callbacks",
    "class_weight": "class_weight",
    "conditions": "conditions",
    "evaluate_every": "evaluate_every",
    "evaluation_batch_size": "evaluation_batch_size",
    "batching.batch_size": "batch_size",
    "batching.epochs": "local_epochs",
    "batching.shuffle": "shuffle",
    "batching.max_batches": "max_batches",
    "batching.drop_remainder": "drop_remainder",
    "seed": "seed",
    "non_trainable": "non_trainable",
    "precision": "precision",
    "client_learning_rate": "client_learning_rate",
}
# Of Keras 2 and Keras 3.
_KERAS = {
    "optimizer.weight_decay": (None,),
    "optimizer.clipnorm": (None,),
    "optimizer.global_clipnorm": (None,),
    "optimizer.clipvalue": (None,),
    "optimizer.use_ema": (False,),
    "optimizer.ema_momentum": (0.99,),
    "optimizer.ema_overwrite_frequency": (None,),
    "optimizer.loss_scale_factor": (None,),
    "optimizer.gradient_accumulation_steps": (None,),
    "optimizer.jit_compile": (False, True),
    "optimizer.is_legacy_optimizer": (False,),
    "optimizer.momentum": (0.0,),
    "optimizer.nesterov": (False,),
    "optimizer.beta_1": (0.9,),
    "optimizer.beta_2": (0.999,),
    "optimizer.epsilon": (1e-7,),
    "optimizer.amsgrad": (False,),
    "optimizer.rho": (0.9,),
    "optimizer.centered": (False,),
    "optimizer.initial_accumulator_value": (0.1,),
    "loss.reduction": ("sum_over_batch_size", "auto"),
    "loss.ignore_class": (None,),
    "loss.from_logits": (False,),
    "loss.axis": (-1,),
    "loss_weights": (None,),
    "metrics": (None,),
    "weighted_metrics": (None,),
}
# What the page shows elsewhere, or what says nothing to people.
_SHOWN_ELSEWHERE = ("stack", "model", "evaluation_examples", "evaluation_data", "num_clients")
_IDENTITIES = ("initial_weights", "client_ids", "training_data")
_NAMES = ("name", "fn", "dtype")


def chosen(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that differ from their defaults, by name.

    Args:
      config: the contents of config.json.

    Example:
      >>> chosen({"seed": 3, "engine": "local", "batching": {"batch_size": 8, "epochs": 2}})
      {'seed': 3, 'batching.epochs': 2}
    """
    defaults: dict[str, tuple[Any, ...]] = dict(_KERAS)
    arguments = _defaults(_FEDLAB / "simulation.py", "simulate")
    for name, argument in _ARGUMENTS.items():
        if argument in arguments:
            defaults[name] = (arguments[argument],)
    defaults["aggregator"] = ("mean",)
    for kind, folder in (("algorithm", "algorithms"), ("aggregator", "aggregators")):
        called = str(config.get(kind))
        if (file := _method_file(folder, called)) is not None:
            for argument, value in _defaults(file, called).items():
                defaults[f"{kind}_settings.{argument}"] = (value,)
    return {
        name: value
        for name, value in run_settings.flat(config).items()
        if not (name in defaults and any(_equal(value, each) for each in defaults[name]))
        and not is_detail(name, value)
    }


def method(config: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the name of a run's algorithm for people, and what it does ("" if unknown).

    Example:
      >>> method({"algorithm": "fed_avg"})
      ('FedAvg', 'clients train, and the server averages')
      >>> method({"algorithm": "my_method"})
      ('my_method', '')
    """
    name = str(config.get("algorithm") or "an unknown algorithm")
    file = _method_file("algorithms", name)
    if file is None:
        return name, ""
    line = (ast.get_docstring(_parsed(file)) or name).splitlines()[0]
    title, colon, rest = line.partition(": ")
    return (title, rest.rstrip(".")) if colon else (name, "")


def _method_file(folder: str, name: str) -> pathlib.Path | None:
    if not name.isidentifier() or name.startswith("_"):
        return None
    file = _FEDLAB / folder / f"{name}.py"
    return file if file.is_file() else None


@functools.cache
def _parsed(file: pathlib.Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _defaults(file: pathlib.Path, function: str) -> dict[str, Any]:
    """Returns the default values of a function's arguments that are literals."""
    for node in _parsed(file).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            arguments = node.args
            positional = arguments.args[len(arguments.args) - len(arguments.defaults) :]
            pairs: list[Any] = [
                *zip(positional, arguments.defaults),
                *zip(arguments.kwonlyargs, arguments.kw_defaults),
            ]
            return {
                argument.arg: ast.literal_eval(default)
                for argument, default in pairs
                if isinstance(default, (ast.Constant, ast.UnaryOp))
            }
    return {}


def _equal(value: Any, default: Any) -> bool:
    if isinstance(value, float) and isinstance(default, float):
        return abs(value - default) <= 1e-6 * abs(default)  # Keras keeps them in float32
    return type(value) is type(default) and value == default


def is_detail(name: str, value: Any) -> bool:
    """Whether a setting says little to people, such as a hash of the data.

    Example:
      >>> is_detail("training_data", "9a59ebda" * 8), is_detail("seed", 0)
      (True, False)
    """
    last = name.rpartition(".")[2].partition("[")[0]
    return (
        name in _IDENTITIES
        or name.startswith(_SHOWN_ELSEWHERE)
        or (
            last in _NAMES and name.startswith(("loss", "metrics", "weighted_metrics", "optimizer"))
        )
        or last == "code"
        or name.startswith(("layers", "weights", "inputs", "input_layers", "output_layers"))
        or value in ({}, [])
    )
