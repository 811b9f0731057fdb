"""Data sets: one module per data set, with `load()` and `synthetic()`."""

import importlib
import pkgutil
from types import ModuleType

from fedlab._checks import did_you_mean


def names() -> tuple[str, ...]:
    """Returns the names of the data sets, in alphabetical order.

    Example:
      >>> "shakespeare" in names()
      True
    """
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in modules if not name.startswith("_")))


def get(name: str) -> ModuleType:
    """Returns a data set's module.

    Args:
      name: one of `names()`.

    Raises:
      ValueError: there is no such data set; the message lists the data sets.

    Example:
      >>> train, test = get("shakespeare").synthetic(num_clients=3)
    """
    if name not in names():
        raise ValueError(
            f"data set {name!r}: expected one of {', '.join(names())}"
            f"{did_you_mean(str(name), names()) or '; check the spelling'}"
        )
    return importlib.import_module(f"{__name__}.{name}")


def __getattr__(name: str) -> ModuleType:
    # fedlab.datasets.shakespeare works without an import of its own, and costs nothing
    # until it is used.
    if name.startswith("_") or name not in names():
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; its data sets are {', '.join(names())}"
        )
    return get(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *names()})
