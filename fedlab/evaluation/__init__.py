"""Evaluation on all examples together, on each client by itself, and after personalization."""

from fedlab._modules import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "FederatedEvaluation": "fedlab.evaluation.per_client",
        "PerClient": "fedlab.evaluation.per_client",
        "evaluate": "fedlab.evaluation.central",
        "evaluate_federated": "fedlab.evaluation.per_client",
        "evaluate_personalized": "fedlab.evaluation.personalized",
        "personalize": "fedlab.evaluation.personalized",
    },
)
