"""Simulates federated learning with Keras: hand over a compiled model and clients, get back a better Keras model."""

import importlib

__version__ = "0.1.0"

_MODULES = ("aggregators", "algorithms", "callbacks", "data", "datasets", "engines", "metrics", "models", "testing")
_NAMES = {
    "ClientData": "fedlab.data",
    "one_core_per_client": "fedlab.engines.workers",
    "simulate": "fedlab.simulation",
    "client_update": "fedlab.simulation",
    "personalize": "fedlab.simulation",
    "evaluate": "fedlab.simulation",
    "evaluate_federated": "fedlab.simulation",
    "evaluate_personalized": "fedlab.simulation",
    "per_client": "fedlab.simulation",
    "write_report": "fedlab.simulation",
    "write_samples": "fedlab.simulation",
    "Run": "fedlab.simulation",
}

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name):
    # Rooms are imported when first used, so that `import fedlab` and every --help answer at once.
    if name in _MODULES:
        return importlib.import_module(f"fedlab.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"fedlab has no {name!r}; it has {', '.join(sorted(__all__))}.")


def __dir__():
    return sorted(__all__)
