"""Names that are resolved by module: "mean" is the object of that name in `mean.py`."""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedlab._checks import did_you_mean


def find(package: str, name: str, attribute: str | None = None) -> Any:
    """Returns the object `attribute` of the module `package.name`.

    Args:
      package: the package's full name.
      name: the module's name in the package.
      attribute: the object's name; by default that of the module.

    Raises:
      ValueError: there is no such module; the message lists the choices.
    """
    allowed = names(package, attribute)
    if name not in allowed:
        kind = package.rpartition(".")[2]
        raise ValueError(
            f"{name!r} is not one of the {kind}: expected {', '.join(allowed)}"
            f"{did_you_mean(str(name), allowed)}"
        )
    return getattr(importlib.import_module(f"{package}.{name}"), attribute or name)


def names(package: str, attribute: str | None = None) -> list[str]:
    """Returns the sorted names of the modules of `package` that define `attribute`.

    By default, that is an object with the module's name.
    """
    modules = [
        module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    ]
    public = [name for name in modules if not name.startswith("_")]
    return sorted(
        name
        for name in public
        if hasattr(importlib.import_module(f"{package}.{name}"), attribute or name)
    )


def lazily(
    package: str, names: Mapping[str, str], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package with lazy imports.

    A name is imported when it is first used.

    Args:
      package: the package's name.
      names: public name -> the module that defines it.
      modules: full names of public modules; the last part is the public name.
    """
    module_of = {module.rpartition(".")[2]: module for module in modules}
    allowed = sorted({*names, *module_of})

    def get(name: str) -> Any:
        if name in module_of:
            value: Any = importlib.import_module(module_of[name])
        elif name in names:
            value = getattr(importlib.import_module(names[name]), name)
        else:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}: expected {', '.join(allowed)}"
                f"{did_you_mean(name, allowed)}"
            )
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: allowed, allowed
