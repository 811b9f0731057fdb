"""The round loop, evaluation, and the run folder."""

import importlib

_NAMES = {
    "FederatedEvaluation": "federated_evaluation",
    "PerClient": "federated_evaluation",
    "Run": "rounds",
    "ClientUpdate": "updates",
    "client_update": "updates",
    "evaluate": "evaluation",
    "evaluate_federated": "federated_evaluation",
    "evaluate_personalized": "personalization",
    "personalize": "personalization",
    "per_client": "federated_evaluation",
    "read_run": "recorded",
    "simulate": "rounds",
    "write_report": "report",
    "write_samples": "report",
}

__all__ = [*_NAMES]


def __getattr__(name):
    # Imported when first used: what reads a finished run needs no TensorFlow.
    if name not in _NAMES:
        raise AttributeError(f"fedlab.simulation has no {name!r}; it has {', '.join(__all__)}.")
    globals()[name] = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    return globals()[name]
