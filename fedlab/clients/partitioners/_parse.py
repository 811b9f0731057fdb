"""Partitioners as texts, for command lines."""

import ast
import inspect

from fedlab import _modules
from fedlab.clients.partitioners._method import Partitioner

_PACKAGE = "fedlab.clients.partitioners"


def parse(text: str, seed: int = 0) -> Partitioner:
    """Returns the Partitioner that a text such as "dirichlet(num_clients=10, alpha=0.5)" names.

    It is the text that `repr` of a Partitioner gives, with only numbers, strings, lists
    and dicts as settings. Nothing in it is executed.

    Args:
      text: the name of a partitioner and its settings.
      seed: the seed, unless the text has one.

    Raises:
      ValueError: the text has another form, or there is no such partitioner or setting.

    Example:
      >>> parse("dirichlet(num_clients=10, alpha=0.5)")
      dirichlet(num_clients=10, alpha=0.5, seed=0)
      >>> parse("natural('writer')")
      natural('writer')
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise SyntaxError
        args = [ast.literal_eval(each) for each in call.args]
        settings = {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg}
        if len(settings) < len(call.keywords) or not all(isinstance(a, str) for a in args[:1]):
            raise SyntaxError
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(
            f"the partitioner {text!r:.100}: expected a name with settings, such as "
            '"dirichlet(num_clients=10, alpha=0.5)" or "natural(\'writer\')"'
        ) from None
    method = _modules.find(_PACKAGE, call.func.id)
    if "seed" in inspect.signature(method).parameters:
        settings.setdefault("seed", seed)
    try:
        return method(*args, **settings)
    except TypeError as error:
        raise ValueError(str(error)) from None
