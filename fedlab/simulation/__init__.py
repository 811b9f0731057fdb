"""The round loop, evaluation, and the run folder."""

import importlib

_NAMES = {
    "FederatedEvaluation": "federated_evaluation",
    "PerClient": "federated_evaluation",
    "Run": "simulate",
    "evaluate": "evaluation",
    "evaluate_federated": "federated_evaluation",
    "evaluate_personalized": "personalization",
    "per_client": "federated_evaluation",
    "read_run": "recorded",
    "simulate": "simulate",
    "write_report": "report",
    "write_samples": "report",
}

__all__ = [*_NAMES]


def __getattr__(name):
    # Imported when first used: what reads a finished run needs no TensorFlow.
    if name not in _NAMES:
        raise AttributeError(f"fedlab.simulation has no {name!r}; it has {', '.join(__all__)}.")
    module = importlib.import_module(f"{__name__}.{_NAMES[name]}")
    # All of them: the import has put the module `simulate` where the function of that name belongs.
    globals().update({each: getattr(module, each) for each, where in _NAMES.items() if where == _NAMES[name]})
    return globals()[name]
