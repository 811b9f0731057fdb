"""Extractive question answering: windows over contexts, answers, exact match and F1, probes and explanations."""

from fedlab._modules import lazily

_NAME = "fedlab.tasks.question_answering"

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "Evaluator": f"{_NAME}.evaluator",
        "Probe": f"{_NAME}.probe",
        "answer": f"{_NAME}.answering",
    },
    modules=[
        f"{_NAME}.{module}"
        for module in (
            "efficacy",
            "explanation",
            "probe",
            "scores",
            "spans",
            "windows",
            "wordpiece",
        )
    ],
)
