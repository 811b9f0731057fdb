"""Files that installed Python packages carry."""

import importlib.util
import pathlib


def file(package: str, name: str) -> pathlib.Path | None:
    """Returns a file of an installed package, without importing it; None if there is none.

    Args:
      package: the package's name.
      name: the file's path in the package's folder.

    Example:
      >>> file("numpy", "no_such_file")
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (found := pathlib.Path(folder) / name).is_file():
            return found
    return None
