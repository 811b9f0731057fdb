"""Checks of arguments, and their error messages.

Messages have one form: what was received, what was expected, and what to do if that is
not obvious.

    clients_per_round=0: expected an integer between 1 and 715, the number of clients
    clients: expected a fedlab.ClientData, got list
"""

import difflib
import math
import numbers
import types
from collections.abc import Iterable
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether a value is a real number (Python or NumPy) and not a bool.

    NaN and infinity are numbers.

    Example:
      >>> is_number(0.5), is_number("0.5"), is_number(True)
      (True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_int(value: Any, minimum: int | None = None, maximum: int | None = None) -> TypeGuard[int]:
    """Returns whether a value is an integer (Python or NumPy) between two bounds, and not a bool.

    Example:
      >>> is_int(3, 1), is_int(3.0, 1), is_int(3, 1, 2)
      (True, False, False)
    """
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and (minimum is None or minimum <= int(value))
        and (maximum is None or int(value) <= maximum)
    )


def check_int(
    name: str, value: Any, minimum: int = 1, maximum: int | None = None, what: str = ""
) -> int:
    """Returns an integer, or raises ValueError.

    Args:
      name: what the caller's argument is called.
      value: the argument.
      minimum, maximum: the bounds, which are allowed values.
      what: what the bounds mean, or an example; added to the message after a comma.

    Example:
      >>> check_int("clients_per_round", 0, 1, 71, "the number of clients")
      Traceback (most recent call last):
        ...
      ValueError: clients_per_round=0: expected an integer between 1 and 71, the number of clients
    """
    if not is_int(value, minimum, maximum):
        bounds = f"of at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
        raise value_error(name, value, f"an integer {bounds}{what and f', {what}'}")
    return int(value)


def check_number(
    name: str,
    value: Any,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    what: str = "",
) -> float:
    """Returns a finite number as a float, or raises ValueError.

    Args:
      name: what the caller's argument is called.
      value: the argument.
      minimum, maximum: bounds that are allowed values.
      above, below: bounds that are not allowed values.
      what: as in `check_int`.

    Example:
      >>> check_number("fraction", 1, above=0, below=1, what="such as 0.1")
      Traceback (most recent call last):
        ...
      ValueError: fraction=1: expected a number above 0 and below 1, such as 0.1
    """
    if not (
        is_number(value)
        and math.isfinite(value)
        and (minimum is None or minimum <= value)
        and (maximum is None or value <= maximum)
        and (above is None or above < value)
        and (below is None or value < below)
    ):
        if minimum is not None and maximum is not None:
            bounds = f" between {minimum} and {maximum}"
        else:
            bound = {"of at least": minimum, "above": above, "of at most": maximum, "below": below}
            bounds = " and".join(f" {k} {v}" for k, v in bound.items() if v is not None)
        number = "a number" if bounds else "a finite number"
        raise value_error(name, value, f"{number}{bounds}{what and f', {what}'}")
    return float(value)


def value_error(name: str, value: Any, expected: str) -> ValueError:
    """Returns the error for an argument whose value is not allowed.

    Example:
      >>> value_error("mode", "best", "'min', 'max' or 'auto'")
      ValueError("mode='best': expected 'min', 'max' or 'auto'")
    """
    return ValueError(f"{name}={_shown(value)}: expected {expected}")


def type_error(name: str, value: Any, expected: str) -> TypeError:
    """Returns the error for an argument of the wrong type.

    Example:
      >>> type_error("clients", [1, 2], "a fedlab.ClientData")
      TypeError('clients: expected a fedlab.ClientData, got list')
    """
    return TypeError(f"{name}: expected {expected}, got {kind(value)}")


def kind(value: Any) -> str:
    """Returns what an error message calls a value of the wrong type.

    That is the name of a function, class or module, and the type of anything else. Strings
    and numbers are shown as well.

    Example:
      >>> kind(None), kind("mean"), kind(0.5), kind(len), kind(int), kind([1, 2])
      ('NoneType', "str 'mean'", 'float 0.5', 'function len', 'class int', 'list')
    """
    if isinstance(value, str | int | float):
        return f"{type(value).__name__} {_shown(value)}"
    name = getattr(value, "__name__", None)
    if name is None:
        return type(value).__name__
    module = isinstance(value, types.ModuleType)
    return f"{'class' if isinstance(value, type) else 'module' if module else 'function'} {name}"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns the end of an error about an unknown name, or "" if no choice resembles it.

    Example:
      >>> did_you_mean("trian", ["evaluate", "train"]), did_you_mean("x", ["train"])
      ("; did you mean 'train'?", '')
    """
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _shown(value: Any) -> str:
    """A value on one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
