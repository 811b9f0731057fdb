"""Names that resolve by module: the file `mean.py` of a room is what "mean" means there."""

import importlib
import pkgutil
import sys


def find(package, name, attribute=None):
    """The object `attribute` of the module `package.name`; by default the object named as the module.

    Raises:
      ValueError: where there is none; it lists the names there are.
    """
    allowed = names(package, attribute)
    if name not in allowed:
        kind = package.rpartition(".")[2]
        raise ValueError(f"{name!r} is not one of the {kind}; allowed: {', '.join(allowed)}.")
    return getattr(importlib.import_module(f"{package}.{name}"), attribute or name)


def names(package, attribute=None):
    """The modules of `package` that define `attribute` (by default an object named as the module), sorted."""
    modules = [
        module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    ]
    public = [name for name in modules if not name.startswith("_")]
    return sorted(
        name
        for name in public
        if hasattr(importlib.import_module(f"{package}.{name}"), attribute or name)
    )


def lazily(package, names, modules=()):
    """`__getattr__`, `__dir__` and `__all__` of a package whose names are imported when first used.

    Args:
      package: the package's name.
      names: public name -> the module that defines it.
      modules: full names of modules that are public by their last part.
    """
    modules = {module.rpartition(".")[2]: module for module in modules}
    allowed = sorted({*names, *modules})

    def get(name):
        if name in modules:
            value = importlib.import_module(modules[name])
        elif name in names:
            value = getattr(importlib.import_module(names[name]), name)
        else:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; it has {', '.join(allowed)}."
            )
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: allowed, allowed
