"""Extractive question answering.

windows, wordpiece, preprocessing: from questions to a model's inputs.
spans, answering, outputs: from a model's outputs to answers.
scores, evaluator, efficacy: how good the answers are.
probe, explanation: what a model does, by example and by word.
"""

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
