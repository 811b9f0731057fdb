"""Simulates federated learning with Keras.

Pass a compiled Keras model and the data of a set of clients, and get back a trained
Keras model.
"""

from fedlab._modules import lazily

__version__ = "0.1.0"

_PACKAGES = (
    "aggregators",
    "algorithms",
    "callbacks",
    "clients",
    "clients.partitioners",
    "data",
    "datasets",
    "engines",
    "evaluation",
    "models",
    "optimizers",
    "runs",
    "tasks",
    "tasks.generation",
    "tasks.question_answering",
    "testing",
)

# Imported when first used, so that `import fedlab` and --help take no time.
__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "ClientData": "fedlab.clients",
        "Run": "fedlab.run",
        "answer": "fedlab.tasks.question_answering.answering",
        "client_update": "fedlab.inspection",
        "evaluate": "fedlab.evaluation.central",
        "evaluate_federated": "fedlab.evaluation.per_client",
        "evaluate_personalized": "fedlab.evaluation.personalized",
        "generate": "fedlab.tasks.generation.generator",
        "one_core_per_client": "fedlab.engines.workers",
        "per_client": "fedlab.evaluation.per_client",
        "personalize": "fedlab.evaluation.personalized",
        "simulate": "fedlab.simulation",
        "write_comparison": "fedlab.runs.read.results",
        "write_report": "fedlab.runs.read.report",
        "write_samples": "fedlab.runs.read.report",
    },
    modules=[f"fedlab.{name}" for name in _PACKAGES],
)
