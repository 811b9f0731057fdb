"""Algorithms, aggregators, optimizers, losses and metrics as texts of options.

A text is a name with settings, such as "fed_adam(0.01)" or "clipped(quantized(mean()))".
Nothing in it is executed: settings are numbers, strings, lists, dicts, or such texts.
"""

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fedlab import _checks

_SCHEDULES = ("constant", "cosine", "exponential", "step", "warm_up")
_OPTIMIZERS = ("adagrad", "adam", "adamw", "rmsprop", "sgd", "yogi")


def algorithm(text: str) -> Any:
    """Returns the algorithm that --algorithm names.

    Example:
      >>> algorithm("fed_prox(mu=0.1)").name
      'fed_prox'
    """
    from fedlab import _modules, algorithms, optimizers

    names = {name: getattr(algorithms, name) for name in _modules.names("fedlab.algorithms")}
    parts = {name: getattr(optimizers, name) for name in _OPTIMIZERS}
    parts |= {name: getattr(optimizers.schedules, name) for name in _SCHEDULES}
    return parse("algorithm", text, names, parts, "fedlab algorithms")


def aggregator(text: str) -> Any:
    """Returns the aggregator that --aggregator names.

    Example:
      >>> aggregator("clipped(quantized(mean()))").name
      'clipped'
    """
    from fedlab import _modules, aggregators

    names = {name: getattr(aggregators, name) for name in _modules.names("fedlab.aggregators")}
    parts = {"adaptive": aggregators.adaptive}
    return parse("aggregator", text, names, parts, "fedlab aggregators")


def of_keras(option: str, text: str) -> Any:
    """Returns the loss, the metric or the optimizer of Keras that an option names.

    Args:
      option: "loss", "metrics" or "optimizer".
      text: a name that `compile` takes, such as "mse", or a class with its settings,
        such as "SparseCategoricalCrossentropy(from_logits=True)".
    """
    import tensorflow as tf

    modules = {
        "loss": tf.keras.losses,
        "metrics": tf.keras.metrics,
        "optimizer": tf.keras.optimizers,
    }
    module = modules[option]
    if "(" in text or (isinstance(getattr(module, text, None), type) and option != "metrics"):
        names = {
            name: each
            for name, each in vars(module).items()
            if isinstance(each, type) and not name.startswith("_")
        }
        return parse(option, text, names)
    if text in ("accuracy", "acc") and option == "metrics":
        return text
    try:
        module.get(text)
    except (ValueError, TypeError):
        raise ValueError(
            f"--{option}={text!r:.100}: expected a name of {module.__name__.rpartition('.')[2]} "
            "of Keras, or a class with settings; see keras.io"
        ) from None
    return text


def parse(
    option: str,
    text: str,
    names: Mapping[str, Callable[..., Any]],
    parts: Mapping[str, Callable[..., Any]] | None = None,
    listed_by: str = "",
) -> Any:
    """Returns what a text of calls makes.

    Args:
      option: the name of the option, for error messages.
      text: a name, or a name with settings.
      names: the functions that may be called.
      parts: further functions that may only be called for settings.
      listed_by: the command that lists the names.

    Raises:
      ValueError: the text has another form, a name is unknown, or a setting is wrong.

    Example:
      >>> parse("size", "dict(a=[1, 2], b=dict)", {"dict": dict})
      {'a': [1, 2], 'b': {}}
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        tree = None
    if not isinstance(tree, ast.Call | ast.Name):
        raise ValueError(
            f"--{option}={text!r:.100}: expected a name, or a name with settings, such as "
            f"'{next(iter(names), 'name')}(...)'"
        )
    everything = {**(parts or {}), **names}

    def make(node: Any, allowed: Mapping[str, Callable[..., Any]]) -> Any:
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if not called and not isinstance(node, ast.Name):
            try:
                return ast.literal_eval(node)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                raise ValueError(
                    f"--{option}: {ast.unparse(node)!r:.100}: expected a number, a text, a list, "
                    "a dict, or a name with settings"
                ) from None
        name = node.func.id if called else node.id
        if name not in allowed:
            one = f"one that `{listed_by}` lists" if listed_by else f"one of {_listed(allowed)}"
            raise ValueError(
                f"--{option}: {name!r:.60}: expected {one}{_checks.did_you_mean(name, allowed)}"
            )
        args = [make(each, everything) for each in node.args] if called else []
        keywords = node.keywords if called else []
        if any(each.arg is None for each in keywords):
            raise ValueError(f"--{option}={text!r:.100}: expected settings by name, not **")
        settings = {each.arg: make(each.value, everything) for each in keywords}
        return _call(option, name, allowed[name], args, settings)

    return make(tree, names)


def _call(
    option: str, name: str, function: Callable[..., Any], args: list[Any], settings: dict[str, Any]
) -> Any:
    parameters = _parameters(function)
    if parameters is not None:
        if unknown := [each for each in settings if each not in parameters]:
            # "learning_rate" stands for "server_learning_rate".
            close = [each for each in parameters if each.endswith(unknown[0])]
            hint = _checks.did_you_mean(unknown[0], parameters)
            raise ValueError(
                f"--{option}: {name}() has no setting {unknown[0]!r}: expected "
                f"{_listed(parameters) or 'none'}"
                f"{f'; did you mean {close[0]!r}?' if close else hint}"
            )
        try:
            inspect.signature(function).bind(*args, **settings)
        except TypeError as error:
            raise ValueError(
                f"--{option}: {name}(): {error}: expected {_listed(parameters) or 'no settings'}"
            ) from None
    try:
        return function(*args, **settings)
    except (ValueError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"--{option}: {name}(): {lines[0]}") from None


def _parameters(function: Callable[..., Any]) -> list[str] | None:
    """The names of a function's arguments, or None if it takes any."""
    try:
        found = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None
    if any(each.kind is each.VAR_KEYWORD for each in found):
        return None
    return [each.name for each in found]


def _listed(names: Any) -> str:
    return ", ".join(names)
