"""What several rooms ask of a value before they compute with it."""

import numbers


def is_number(value):
    """Whether a value is a real number, of Python or NumPy. True and False are none; NaN and infinity are.

    Example:
      >>> is_number(0.5), is_number("0.5"), is_number(True)
      (True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_int(value, least, most=None):
    """Whether a value is an int from `least` to `most`, of Python or NumPy. True and False are none.

    Example:
      >>> is_int(3, 1), is_int(3.0, 1), is_int(3, 1, 2)
      (True, False, False)
    """
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and least <= value
        and (most is None or value <= most)
    )


def check_int(name, value, least=1, most=None):
    """Raises ValueError, in a line that names it, unless `is_int`.

    Example:
      >>> check_int("rounds", 0)
      Traceback (most recent call last):
        ...
      ValueError: rounds is 0; allowed: an int of 1 or more.
    """
    if not is_int(value, least, most):
        raise ValueError(
            f"{name} is {value!r}; allowed: an int of {least} {'or more' if most is None else f'to {most}'}."
        )


def kind(value):
    """What to call a value of the wrong kind: the name of a function that was not called, a text itself, or else its type.

    Example:
      >>> kind(None), kind("mean"), kind(len)
      ('NoneType', "str, 'mean'", 'len')
    """
    if isinstance(value, str):
        return f"str, {value!r:.60}"
    return getattr(value, "__name__", type(value).__name__)
